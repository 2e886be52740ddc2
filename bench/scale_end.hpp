// One process of scale_bench: loads the provider and does what the leader says.
//
//   start     {cpu, yield, files}                   server: {port, idle_port}
//   open      {connections, receives, sends, port}  so many busy connections; port is the client's only
//   close     {}                                    closes them
//   crowd     {count, receives, port}               so many idle connections more
//   disperse  {}                                    closes the idle ones
//   ping      {skip, count}                         ping-pong over the first busy one; client: {p50, p99, elapsed_ns}
//   stream    {count}                               one way, round robin, acknowledged over the last one
//   echo      {skip, count, threads}                a volley over all; with threads: each its share of connections
//   memory    {}                                    {resident_kib, anonymous_kib}
#pragma once

#include <string>

namespace sanpoll::bench {

enum class ScaleRole { kServer, kClient };

inline constexpr unsigned kScaleMessageBytes = 64;

// Until the leader dismisses it. Returns the exit status.
int run_scale_end(ScaleRole role, const std::string& library, int control_fd);

}  // namespace sanpoll::bench
