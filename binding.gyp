{
  "targets": [
    {
      "target_name": "weft",
      "sources": [
        "native/addon.cc",
        "native/addon_connections.cc",
        "native/addon_frame_io.cc",
        "native/addon_heap.cc",
        "native/addon_layout.cc",
        "native/addon_liveness.cc",
        "native/addon_netns.cc",
        "native/addon_passing.cc",
        "native/balancing.cc",
        "native/coalesce.cc",
        "native/connection_index.cc",
        "native/connection_room.cc",
        "native/connection_table.cc",
        "native/datapath.cc",
        "native/datapath_connections.cc",
        "native/datapath_receive.cc",
        "native/extract.cc",
        "native/flow_cache.cc",
        "native/fragment_tracker.cc",
        "native/liveness.cc",
        "native/pending.cc",
        "native/prober.cc",
        "native/refuse.cc",
        "native/segment.cc",
        "native/worker.cc",
        "native/workers.cc",
        "native/io/conntrack.cc",
        "native/io/frame_io.cc",
        "native/io/netns.cc",
        "native/io/nftables.cc",
        "native/io/passing.cc",
        "native/io/route_mtu.cc",
        "native/io/privileges.cc",
        "native/io/steering.cc",
        "native/io/tap.cc",
        "native/io/underlay.cc"
      ],
      "include_dirs": ["native", "<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags": ["-O3", "-Wall", "-Wextra"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": ["-std=c++20", "-fno-exceptions", "-fno-rtti"]
    },
    {
      "target_name": "weft-holder",
      "type": "executable",
      "sources": ["native/holder.cc", "native/io/passing.cc"],
      "include_dirs": ["native"],
      "cflags": ["-O2", "-Wall", "-Wextra"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": ["-std=c++20", "-fno-exceptions", "-fno-rtti"]
    }
  ]
}
