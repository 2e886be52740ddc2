# How our code is compiled. Every target of ours links sanpoll_options PRIVATE; nothing here is set
# globally except what CMake knows only as a variable (language level, visibility, PIC).

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)

# The static libraries end up inside libsanpoll.so, which shows one symbol.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

set(CMAKE_EXPORT_COMPILE_COMMANDS ON)   # for clang-tidy

# Programs find the library beside them, in the build tree (bin/ and bin/tests/) as when installed.
# An explicit entry is needed: they load it with dlopen and so have no link that CMake could see.
set(CMAKE_BUILD_RPATH "\$ORIGIN/../lib;\$ORIGIN/../../lib")
set(CMAKE_INSTALL_RPATH "\$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release" FORCE)
endif()

# `cmake --compile-no-warning-as-error` turns it off for a compiler that we have not tried.
if(NOT DEFINED CMAKE_COMPILE_WARNING_AS_ERROR)
  set(CMAKE_COMPILE_WARNING_AS_ERROR ON)
endif()

find_program(SANPOLL_CCACHE ccache)
mark_as_advanced(SANPOLL_CCACHE)
if(SANPOLL_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  # By the dependencies that the compiler finds, so that a first build is not preprocessed twice. What ccache cannot
  # see in precompiled headers is none of ours: they are made of headers that the system installed, and what is
  # defined before them stands in the command line.
  find_program(SANPOLL_ENV env REQUIRED)
  mark_as_advanced(SANPOLL_ENV)
  set(CMAKE_C_COMPILER_LAUNCHER
    "${SANPOLL_ENV};CCACHE_DEPEND=1;CCACHE_SLOPPINESS=pch_defines,time_macros;${SANPOLL_CCACHE}")
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_C_COMPILER_LAUNCHER}")
endif()

# A fixed level, so that a binary built on one host runs on the next one.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(default_arch "x86-64-v3")
else()
  set(default_arch "")
endif()
set(SANPOLL_ARCH "${default_arch}" CACHE STRING
  "Value of -march for our own code; empty: the compiler's default")
unset(default_arch)

set(SANPOLL_SANITIZE "" CACHE STRING "Value of -fsanitize for our own code; empty: none")

add_library(sanpoll_options INTERFACE)
target_include_directories(sanpoll_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_features(sanpoll_options INTERFACE cxx_std_20 c_std_11)
target_compile_options(sanpoll_options INTERFACE -Wall -Wextra -Wpedantic)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 still holds to C++11's rule that a failed compare-exchange may not order more than a
  # successful one; C++17 dropped it.
  target_compile_options(sanpoll_options INTERFACE -Wno-invalid-memory-model)
  if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # False alarms of g++ 12 in std::string's own code ("text" + string).
    target_compile_options(sanpoll_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
  endif()
endif()
target_compile_definitions(sanpoll_options INTERFACE
  $<$<AND:$<CONFIG:Debug>,$<COMPILE_LANGUAGE:CXX>>:_GLIBCXX_ASSERTIONS>)

if(SANPOLL_ARCH)
  target_compile_options(sanpoll_options INTERFACE "-march=${SANPOLL_ARCH}")
endif()
# Prefetching a line in order to write it: in every x86-64 processor of the last ten years and a no-op in
# older ones, but in no -march level.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  target_compile_options(sanpoll_options INTERFACE -mprfchw)
endif()

if(SANPOLL_SANITIZE)
  set(sanitize_flags "-fsanitize=${SANPOLL_SANITIZE}" -fno-sanitize-recover=all)
  target_compile_options(sanpoll_options INTERFACE ${sanitize_flags})
  target_link_options(sanpoll_options INTERFACE ${sanitize_flags})
  if(SANPOLL_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # g++ warns of every atomic_thread_fence, which its ThreadSanitizer does not model.
    target_compile_options(sanpoll_options INTERFACE -Wno-tsan)
  endif()
  unset(sanitize_flags)
endif()
