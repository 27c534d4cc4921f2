/* Resolves a name as programs with musl do: prints its addresses, sorted by getaddrinfo, one on a line. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char** argv) {
  struct addrinfo hints = {0}, *all;
  hints.ai_socktype = SOCK_STREAM;
  const int error = getaddrinfo(argv[argc - 1], NULL, &hints, &all);
  if (error) {
    fprintf(stderr, "%s\n", gai_strerror(error));
    return 1;
  }
  for (struct addrinfo* one = all; one; one = one->ai_next) {
    char text[INET6_ADDRSTRLEN];
    const void* address = one->ai_family == AF_INET ? (void*)&((struct sockaddr_in*)one->ai_addr)->sin_addr
                                                    : (void*)&((struct sockaddr_in6*)one->ai_addr)->sin6_addr;
    printf("%s\n", inet_ntop(one->ai_family, address, text, sizeof text));
  }
  return 0;
}
