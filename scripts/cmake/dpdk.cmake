# sanpoll_dpdk_static: DPDK's EAL as static archives, embedded in whatever links it.
#
# Why static: libsanpoll.so lives in other people's processes. The shared EAL would bring dozens of
# librte_*.so with it and load every driver that is installed; the archives add some 350 KiB, start
# faster, and cannot meet another version of themselves.
#
# Why not pkg-config's target: its flags end in DPDK's own -march, which would override ours, and its
# static list holds every driver there is and does not link. The folders still come from pkg-config.

find_package(PkgConfig REQUIRED)
pkg_check_modules(DPDK REQUIRED QUIET libdpdk>=22.11)

find_library(SANPOLL_NUMA_LIBRARY numa REQUIRED)
find_library(SANPOLL_BSD_LIBRARY bsd REQUIRED)   # EAL's strlcpy
mark_as_advanced(SANPOLL_NUMA_LIBRARY SANPOLL_BSD_LIBRARY)

foreach(component IN ITEMS eal telemetry kvargs ring)
  find_library(SANPOLL_DPDK_${component} "librte_${component}.a"
    HINTS ${DPDK_STATIC_LIBRARY_DIRS} "${DPDK_LIBDIR}" REQUIRED)
  mark_as_advanced(SANPOLL_DPDK_${component})
  add_library(sanpoll_rte_${component} STATIC IMPORTED GLOBAL)
  set_target_properties(sanpoll_rte_${component} PROPERTIES
    IMPORTED_LOCATION "${SANPOLL_DPDK_${component}}")
endforeach()

# The EAL is more than it is called for: log types, command-line options and memory classes register
# themselves by constructors, which the linker would drop as unused. Hence the whole archive, for
# this one only; from the others the linker takes what the EAL and we use.
target_link_libraries(sanpoll_rte_telemetry INTERFACE sanpoll_rte_kvargs)
add_library(sanpoll_dpdk_static INTERFACE)
target_link_libraries(sanpoll_dpdk_static INTERFACE
  $<LINK_LIBRARY:WHOLE_ARCHIVE,sanpoll_rte_eal>
  sanpoll_rte_ring sanpoll_rte_telemetry sanpoll_rte_kvargs
  "${SANPOLL_NUMA_LIBRARY}" "${SANPOLL_BSD_LIBRARY}" Threads::Threads ${CMAKE_DL_LIBS} m)

# DPDK's headers are not clean under -Wpedantic and use what C++20 deprecates: system includes. Every one of them expects
# rte_config.h to have been read first; who uses them includes it, as a forced include would come before precompiled
# headers, which must be first.
target_include_directories(sanpoll_dpdk_static SYSTEM INTERFACE ${DPDK_INCLUDE_DIRS})

if(SANPOLL_SANITIZE MATCHES "thread")
  # rte_ring's default variant orders by the x86 memory model, which ThreadSanitizer cannot know.
  target_compile_definitions(sanpoll_dpdk_static INTERFACE RTE_USE_C11_MEM_MODEL)
endif()
