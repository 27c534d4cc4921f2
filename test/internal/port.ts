/** Where the echo server listens. Below 1024, as name servers do. */
export const ECHO_PORT = 53;
