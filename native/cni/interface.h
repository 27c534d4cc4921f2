// Takes the interface of a container away while no daemon does it.
#pragma once

#include <string>

namespace weft::cni {

// Deletes the TAP of that name in a network namespace. 0 also if there is no such namespace or interface, or if it is none of weft's
// (not a TAP): somebody has removed it. Else -errno. The calling thread enters the namespace, and stays there.
int remove_tap(const std::string& netns, const std::string& ifname);

}  // namespace weft::cni
