// One end of the measurement (or, with one thread, both): does what the leader says over a control channel.
//
// Commands are JSON objects with "do"; every command gets one answer, {"ok": true, ...} or {"error": "one line"},
// after which the agent ends. Commands, and what their answers add:
//   setup   {cpu, yield, address, local, library, san, tcp, tcp_blocking, peers}
//           (address: the server's; local: what the client binds to; peers: names of those that are wanted)
//           -> {missing: {name: why}, provider, provider_path, startup_ms}, servers also {address, san_port, tcp_port, addresses}
//   open    {transport: "san"|"san-arena"|"tcp"|a peer's name, port, completion, fresh, size, receives, sends}
//           connects or accepts; posts the receives
//           -> {fabric, device, reason}                                 (measuring ends of "san..." only)
//   ping    {skip, count}    -> {elapsed_ns, buckets, min, max, sum}    (measuring ends only)
//   stream  {count}          -> {elapsed_ns}                            (measuring ends only)
//   close   {}                                                          ends the connection
//   quit    {}                                                          ends the agent
// Between commands the agent sleeps in a read, so that the leader can measure the hand-off on the same CPUs.
#pragma once

#include <string>

#include "bench/control_channel.hpp"
#include "bench/peer.hpp"
#include "bench/ping_options.hpp"

namespace sanpoll::bench {

enum class AgentRole { kServer, kClient, kPair };

// Serves commands until "quit", a fault or the end of the channel. True if it ended by "quit". `own` goes over what a
// "setup" says: what a leader on another host must not choose. `peers`: what the process can use beside the provider and
// kernel TCP.
bool run_agent(AgentRole role, const ControlChannel& channel, const nlohmann::json& own,
               const Peers& peers);

// --listen: waits for a leader on another host and is its server. Answers the exit status; throws what
// ControlChannel::accept does.
int run_listening_agent(const PingOptions& options);

// main() of the processes that sanpoll-ping and peer_bench start: an agent for each control channel; with two channels the first
// thread serves and a second one is the client. Answers the exit status.
int run_agent_process(const std::string& role, const std::vector<int>& control_fds,
                      const Peers& peers);

}  // namespace sanpoll::bench
