// Reads the attributes of netlink messages; those of rtnetlink and nfnetlink have the same form.
#pragma once

#include <linux/rtnetlink.h>
#include <stddef.h>

namespace weft {

inline const rtattr* find_attribute(const rtattr* first, size_t bytes, unsigned type) {
  int left = static_cast<int>(bytes);
  for (const rtattr* at = first; RTA_OK(at, left); at = RTA_NEXT(at, left)) {
    if ((at->rta_type & NLA_TYPE_MASK) == type) return at;
  }
  return nullptr;
}

inline const rtattr* find_nested(const rtattr* parent, unsigned type) {
  if (!parent) return nullptr;
  return find_attribute(static_cast<const rtattr*>(RTA_DATA(parent)), RTA_PAYLOAD(parent), type);
}

}  // namespace weft
