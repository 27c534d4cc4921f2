// Whether a record that was found in memory can be one of a connection. src/datapath/reference/plausible.ts does the same.
#pragma once

#include "connection_table.h"

namespace weft {

inline bool is_plausible(const ConnectionOpening& of) {
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const uint8_t* addresses[] = {of.original.source, of.original.destination, of.translated.source,
                                of.translated.destination};
  const auto is_v4 = [&](const uint8_t* address) { return memcmp(address, kMapped, sizeof kMapped) == 0; };
  const bool v4 = is_v4(addresses[0]);
  for (const uint8_t* address : addresses) {
    if (is_v4(address) != v4) return false;
  }
  const bool can_be_translated = of.protocol == 1 || of.protocol == 6 || of.protocol == 17 || of.protocol == 58;
  if (of.kind == ConnectionKind::tracked) {
    constexpr uint8_t kSctp = 132;
    const bool has_ports = load32(of.original.source_port) != 0;
    if (has_ports && !can_be_translated && of.protocol != kSctp) return false;
    return memcmp(&of.original, &of.translated, sizeof of.original) == 0;
  }
  if (!can_be_translated) return false;
  const bool is_other = of.kind == ConnectionKind::translated || of.kind == ConnectionKind::ended;
  return is_other && (of.places[0] != kOutside || of.places[1] != kOutside);
}

}  // namespace weft
