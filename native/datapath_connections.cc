// What the datapath does with connections: finds the connection of a frame and its flow (7), and
// opens, counts and translates (8).
#include "datapath.h"
#include "nat.h"
#include "quoted.h"

namespace weft {
namespace {

constexpr uint8_t kSyn = 2, kRst = 4, kAck = 16;
// How much data a SYN may bring (RFC 7413), at most.
constexpr uint32_t kMostSynData = 65'535;
// The owners of what comes in from other hosts, behind those of ports: PEER_OWNERS of src/flow/connection-store.ts.
constexpr uint32_t kFirstPeerOwner = 65'536, kPeerOwners = 256;

// Who owns the connections that begin with packets of this host: its number among so many, so that no host takes the
// room of all others. Hosts with the same number share it.
uint32_t owner_of_peer(const uint8_t* vtep) {
  uint8_t number = 0;
  for (uint32_t i = 0; i < 16; ++i) number ^= vtep[i];
  return kFirstPeerOwner + number % kPeerOwners;
}

// True if it can be the first packet of a conversation that is seen here: of a ping, the request and not the reply; of TCP,
// whatever comes, since it may be older than this record of it, but what answers a SYN or ends what is not known, and what
// does not say what it is.
bool may_begin(const Key& key, const Frame& frame) {
  const uint32_t type = load16(key.l4_src);
  if (key.ip_proto == nat::kIcmp) return type == 8;
  if (key.ip_proto == nat::kIcmpv6) return type == 128;
  if (key.ip_proto != nat::kTcp) return true;
  const uint32_t l4 = l4_of(frame, key);
  if (!l4) return false;
  const uint8_t flags = frame.data[l4 + 13];
  return !(flags & kRst) && (flags & (kSyn | kAck)) != (kSyn | kAck);
}

// True if this segment begins a TCP connection.
bool begins_tcp(const Key& key, const Frame& frame) {
  if (key.ip_proto != nat::kTcp) return false;
  const uint32_t l4 = l4_of(frame, key);
  return l4 && (frame.data[l4 + 13] & (kSyn | kAck)) == kSyn;
}

// True if nobody has answered the SYN of this connection, and this segment does not either: with the same ends, its sender
// has another conversation. That is noted in the record, for the next SYN.
bool is_of_another(Connection& connection, const uint8_t* tcp) {
  ConnectionHalf& reply = connection.half(true);
  ConnectionHalf& original = connection.half(false);
  if (relaxed_load(reply.packets) || !(relaxed_load(original.seen) & kSeenSyn)) return false;
  const uint8_t flags = tcp[13];
  const bool answers = (flags & kSyn) || ((flags & kAck) && load32(tcp + 8) == relaxed_load(original.end));
  if (answers) return false;
  relaxed_store(reply.seen, relaxed_load(reply.seen) | kSeenOther);
  return true;
}

// True if this segment begins another conversation than this one, which is only tracked: a SYN of who has been called; or of
// who has called, with another number, after an answer: it uses the port again, and may have been restarted.
bool begins_another(Connection& connection, bool reply, const uint8_t* tcp) {
  if ((tcp[13] & (kSyn | kAck)) != kSyn) return false;
  return reply || (relaxed_load(connection.half(true).packets) && load32(tcp + 4) + 1 != relaxed_load(connection.half(false).end));
}

// True if nobody has answered the SYN of this connection, and this one has another number: its sender has given that up, and uses
// the port again. Only the data that a SYN brings may be missing when it is repeated.
bool is_given_up(Connection& connection, const uint8_t* tcp) {
  ConnectionHalf& original = connection.half(false);
  if (relaxed_load(connection.half(true).packets) || !(relaxed_load(original.seen) & kSeenSyn)) return false;
  return relaxed_load(original.end) - (load32(tcp + 4) + 1) > kMostSynData;
}

// True if the packet belongs to the connection that was found by its tuple. If that one is only tracked, a SYN may begin
// another one. If it had a choice of backends, a SYN between the same ends begins another one, with a
// choice of its own, when it is over or given up; and with another port, when its backend has another conversation with these ends.
bool is_part_of(const ConnectionTable::Found& found, const Key& key, const Frame& frame) {
  Connection& connection = *found.at;
  if (!is_of(connection, found.reply, key)) return false;
  if (key.ip_proto != nat::kTcp) return true;
  const bool is_tracked = kind_of(connection) == ConnectionKind::tracked;
  if (!is_tracked && connection.pin == 0) return true;
  if (!is_tracked && found.reply && relaxed_load(connection.half(true).packets)) return true;
  const uint32_t l4 = l4_of(frame, key);
  if (!l4) return true;
  if (is_tracked) return !begins_another(connection, found.reply, frame.data + l4);
  if (found.reply) return kind_of(connection) == ConnectionKind::ended || !is_of_another(connection, frame.data + l4);
  if ((frame.data[l4 + 13] & (kSyn | kAck)) != kSyn) return true;
  ConnectionHalf& reply = connection.half(true);
  if (!relaxed_load(reply.packets) && (relaxed_load(reply.seen) & kSeenOther)) return false;
  if (is_given_up(connection, frame.data + l4)) return false;
  return !is_over(connection);
}

// True if it can be the first packet of a connection through a service.
bool may_be_balanced(const Key& key, const Frame& frame) {
  if (is_ipv4(key) && !has_right_ipv4_header(l3_of(frame, key))) return false;
  return key.ip_proto == nat::kTcp ? begins_tcp(key, frame) : key.ip_proto == nat::kUdp && l4_of(frame, key);
}

// True if the packet begins a conversation with the tuple of somebody else.
bool begins_taken(const ConnectionTable::Found& found, const Key& key, const Frame& frame) {
  return found.taken && (key.ip_proto != nat::kTcp || begins_tcp(key, frame));
}

}  // namespace

// 7. Connection

// Looks up those of the arrivals, which came in by this port, and the flows that they have from them. False if none of
// the arrivals can belong to a connection.
bool Datapath::look_up_connections(uint16_t number) {
  const Port& from = *port(number);
  if (!from.is_tunnel() && !connections_->has_any_in(from.place)) return false;
  probes_.clear();
  for (uint32_t i = 0; i < arrivals_->size(); ++i) {
    Words& key = (*arrivals_)[i].key;
    const uint32_t place = place_of(from, key);
    Probe probe;
    probe.arrival = i;
    if (!connections_->has_any_in(place)) continue;
    if (!tuple_of(key, place, &probe.key)) {
      if (is_icmp_error(key.key())) key.set_ct_state(state_of_error(key, (*arrivals_)[i].frame, place));
      continue;
    }
    probe.hash = connections_->hash(probe.key);
    connections_->prefetch(probe.hash);
    probes_.push_back(probe);
  }
  if (probes_.empty()) return false;
  found_.assign(arrivals_->size(), nullptr);
  found_connections_.resize(arrivals_->size());
  for (const Probe& probe : probes_) connections_->prefetch_record(probe.hash);
  for (const Probe& probe : probes_) {
    const Found found = connections_->find(probe.key, probe.hash);
    Arrival& arrival = (*arrivals_)[probe.arrival];
    if (!found && begins_taken(found, arrival.key.key(), arrival.frame)) arrival.key.set_ct_state(kCtTaken);
    if (!found || !is_part_of(found, arrival.key.key(), arrival.frame)) continue;
    found_connections_[probe.arrival] = found;
    arrival.key.set_ct_state(ct_state_of(found, arrival.key, arrival.frame));
    cache_.prefetch(relaxed_load(found.at->half(found.reply).flow_slot));
  }
  for (const Probe& probe : probes_) {
    const Found& found = found_connections_[probe.arrival];
    if (found) found_[probe.arrival] = flow_of(found, (*arrivals_)[probe.arrival].key);
  }
  return true;
}

// The place in which the tuple of a packet with this key is meaningful.
uint32_t Datapath::place_of(const Port& port, const Words& key) {
  if (!port.is_tunnel()) return port.place;
  const uint32_t vni = load32(reinterpret_cast<const uint8_t*>(key.at) + offsetof(Key, tun_vni));
  return vni == kOutside ? kNowhere : vni;
}

uint32_t Datapath::place_of(const Words& key) {
  const Port* port = this->port(load16(reinterpret_cast<const uint8_t*>(key.at) + offsetof(Key, in_port)));
  return port ? place_of(*port, key) : kNowhere;
}

// The connection of a packet with this key, or none.
Datapath::Found Datapath::find_connection(const Words& key, const Frame& frame) {
  TupleKey tuple;
  if (!connections_ || connections_->empty()) return {};
  const uint32_t place = place_of(key);
  if (!connections_->has_any_in(place) || !tuple_of(key, place, &tuple)) return {};
  Found found = connections_->find(tuple);
  if (found) return is_part_of(found, key.key(), frame) ? found : Found{};
  found.taken = begins_taken(found, key.key(), frame);
  return found;
}

// What an ICMP error is about: that decides alone about an error about a connection whose addresses are translated. One about
// a tracked conversation from whom the packet was for, to its sender, goes the way of its other packets. If it is from somebody
// else, who may be a router on the way, it is decided about alone.
uint8_t Datapath::state_of_error(const Words& words, const Frame& frame, uint32_t place) {
  const Key& key = words.key();
  const uint32_t l4 = l4_of(frame, key);
  const uint32_t quoted = l4 + 8;
  TupleKey answer;
  if (!l4 || frame.pieces) return kCtError;
  if (frame.length < quoted || !answer_to_quoted(frame.data + quoted, frame.length - quoted, is_ipv4(key), place, &answer)) {
    return kCtNone;
  }
  const Found found = connections_->find(answer);
  if (!found) return kCtNone;
  if (kind_of(*found.at) != ConnectionKind::tracked) return kCtError;
  if (memcmp(answer.tuple.destination, key.ip_dst, sizeof key.ip_dst) != 0) return kCtNone;
  if (memcmp(answer.tuple.source, key.ip_src, sizeof key.ip_src) != 0) return kCtError;
  return found.reply ? kCtKnownReply : kCtKnown;
}

uint8_t Datapath::ct_state_of(const Found& connection, const Words& words, const Frame& frame) {
  if (connection) {
    if (kind_of(*connection.at) == ConnectionKind::tracked) return connection.reply ? kCtKnownReply : kCtKnown;
    return connection.reply ? kCtReply : kCtOriginal;
  }
  if (connection.taken) return kCtTaken;
  if (!connections_ || !is_icmp_error(words.key())) return kCtNone;
  const uint32_t place = place_of(words);
  return connections_->has_any_in(place) ? state_of_error(words, frame, place) : kCtNone;
}

// The flow of the connection's direction, if it covers the key.
Flow* Datapath::flow_of(const Found& connection, const Words& key) {
  ConnectionHalf& half = connection.at->half(connection.reply);
  const uint32_t id = relaxed_load(half.flow);
  if (id == 0) return nullptr;
  const uint32_t known = relaxed_load(half.flow_slot);
  uint32_t slot = known;
  Flow* flow = cache_.by_id(id, &slot);
  if (slot != known) relaxed_store(half.flow_slot, slot);
  return flow && cache_.covers(flow, key) ? flow : nullptr;
}

// From now on, the direction takes this flow, unless it has one that still exists.
void Datapath::give_flow(const Found& connection, const Flow& flow) {
  ConnectionHalf& half = connection.at->half(connection.reply);
  const uint32_t id = relaxed_load(half.flow);
  if (id == flow.id) return;
  uint32_t slot = relaxed_load(half.flow_slot);
  if (id && cache_.by_id(id, &slot)) return;
  relaxed_store(half.flow_slot, cache_.slot_of(&flow));
  relaxed_store(half.flow, flow.id);
}

// Balance: the packet begins a connection to the backend that a table chooses. Finds none if JavaScript has to decide, or if it is
// refused. `words` are the key without what the connection says about it.
Datapath::Found Datapath::balance(const Action& action, const Words& words, const Frame& frame) {
  TupleKey tuple;
  const uint32_t place = place_of(words);
  const Key key = words.key();
  if (!connections_ || place == kNowhere || !may_be_balanced(key, frame)) return {};
  if (!tuple_of(words, place, &tuple)) return {};
  const BalanceOwners owners(action);
  const Found opened = connections_->open_balanced(action.argument, owners.at, tuple, now_ms_, load16(key.in_port));
  const BalancedWays::Way* const way = opened ? ways_.of(*opened.at) : nullptr;
  // Its first reply is spared a search.
  if (way) relaxed_store(opened.at->half(true).flow, way->flows[true]);
  return opened;
}

// For a packet that hit no flow: that of others of its kind, if the direction of its connection has none, and if that covers it.
Flow* Datapath::take_flow_of_others(const Found& connection, const Words& key) {
  ConnectionHalf& half = connection.at->half(connection.reply);
  const uint32_t own = relaxed_load(half.flow);
  uint32_t slot = relaxed_load(half.flow_slot);
  if (own && cache_.by_id(own, &slot)) return flow_of(connection, key);
  const BalancedWays::Way* const way = ways_.of(*connection.at);
  const uint32_t id = way ? way->flows[connection.reply] : 0;
  Flow* const flow = id ? cache_.by_id(id, &slot) : nullptr;
  if (!flow || !cache_.covers(flow, key)) return nullptr;
  relaxed_store(half.flow_slot, slot);
  relaxed_store(half.flow, id);
  return flow;
}

// It was decided about a packet of this connection, so its direction has its flow by now: others of its kind take that, too.
void Datapath::note_flow(const Found& connection) {
  BalancedWays::Way* const way = ways_.of(*connection.at);
  const uint32_t id = relaxed_load(connection.at->half(connection.reply).flow);
  if (way && id) way->flows[connection.reply] = id;
}

// 8. Connect

// True if the packet is within the rate that a hook has set. Without a table of connections, there is none.
bool Datapath::admits(const MeterName& meter, const Frame& frame) {
  if (meter.id == 0 || !connections_ || !connections_->may_open()) return true;
  return connections_->meters().take(meter, wire_bytes(frame), segment_count(frame), now_ms_);
}

// Sets the DSCP that the packet is to have, if there is one.
Reason Datapath::connect(const Action& action, const Frame& frame, const Key& key, Found connection, uint8_t* dscp) {
  if (action.op == Op::related) return relate(action, frame, key);
  if (action.op == Op::nat && action.generation()) connection = named(action, key);
  else if (!connection) connection = find_connection(Words::of(key), frame);
  if (!connection && action.op == Op::track) {
    connection = open(action, frame, key);
    if (!connection) {
      const Treatment treatment = action.treatment();
      *dscp = treatment.dscp;
      return admits(treatment.meter, frame) ? kNoDrop : Reason::hook_rate_limit;
    }
  }
  if (!connection) return action.op == Op::count && is_icmp_error(key) ? kNoDrop : Reason::connection_gone;
  const ConnectionKind kind = action.op == Op::nat ? ConnectionKind::translated : ConnectionKind::tracked;
  if (kind_of(*connection.at) != kind) return Reason::connection_gone;
  if (!connection.reply) {
    const Treatment& treatment = connection.at->half(false).treatment;
    if (!admits(treatment.meter, frame)) return Reason::hook_rate_limit;
    *dscp = treatment.dscp;
  }
  const uint32_t l4 = l4_of(frame, key);
  track(connection.at, connection.reply, frame, l4, now_ms_);
  if (action.op != Op::nat) return kNoDrop;
  const Connection& found = *connection.at;
  rewrite_nat(frame, key, l4, connection.reply ? backwards(found.original) : forwards(found.translated));
  return kNoDrop;
}

// The connection that the action names, or none if the packet cannot belong to it.
Datapath::Found Datapath::named(const Action& action, const Key& key) const {
  Connection* connection = connections_ ? connections_->at(action.argument, action.generation()) : nullptr;
  if (!connection || !is_of(*connection, action.reply(), key)) return {};
  return {connection, action.argument, action.generation(), action.reply()};
}

// Handles an ICMP error about a packet of the connection that the action names.
Reason Datapath::relate(const Action& action, const Frame& frame, const Key& key) {
  const Connection* connection = connections_ ? connections_->at(action.argument, action.generation()) : nullptr;
  if (!connection) return Reason::connection_gone;
  const Tuple& original = connection->original;
  const Tuple& translated = connection->translated;
  const Endpoints from = action.reply() ? forwards(translated) : backwards(original);
  const Endpoints to = action.reply() ? forwards(original) : backwards(translated);
  const bool is_related = rewrite_related(frame, key, l4_of(frame, key), connection->protocol, from, to);
  return is_related ? kNoDrop : Reason::icmp_unrelated;
}

// The connection that begins with this packet; none if it cannot begin one, if it has the ends of another one that goes on, or
// if there is no room. Then the packet goes on, untracked. Its owner is the port where the packet
// came in, or the host that it came from.
Datapath::Found Datapath::open(const Action& action, const Frame& frame, const Key& key) {
  TupleKey tuple;
  const Words words = Words::of(key);
  const uint16_t number = load16(key.in_port);
  const Port* from = port(number);
  const uint32_t place = from ? place_of(*from, words) : kNowhere;
  if (!connections_ || !connections_->may_open() || place == kNowhere) return {};
  if (!may_begin(key, frame) || !tuple_of(words, place, &tuple)) return {};
  const uint32_t owner = from->is_tunnel() ? owner_of_peer(key.tun_src) : number;
  const Found found = connections_->open(tuple, action.argument, owner, now_ms_, begins_tcp(key, frame), action.treatment());
  if (!found || !is_of(*found.at, found.reply, key)) return {};
  if (!found.reply && action.reply_flow()) relaxed_store(found.at->half(1).flow, action.reply_flow());
  return found;
}

}  // namespace weft
