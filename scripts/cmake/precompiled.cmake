# Precompiled headers of the standard library and of what else is large and never changes. A third of the
# time that a short test's source takes, and more, is the reading of <gtest/gtest.h> and what it includes.
#
# sanpoll_precompiled_headers(<group> HEADERS <header>... [LIBS <target>...])
#   Precompiles them once, with the compile options of the folder that says so, as executables are compiled.
# sanpoll_precompile(<target> <group>)
#   Gives them to a target: an executable, or a static library that only executables link (its code is compiled as
#   theirs is, -fPIE, or the compiler could not use them). Where no such group was made it does nothing.
#
# No source may rely on it: with -DSANPOLL_PCH=OFF each includes what it uses, and that is how scripts/lint looks at
# them. A target whose sources must not see other headers first sets DISABLE_PRECOMPILE_HEADERS.

option(SANPOLL_PCH "Precompile the headers that most sources include" ON)

# What is optimised as it ships does without: g++ 12 gives more false alarms in std::string's own code ("text" + string)
# when that comes precompiled, and to turn them off would be to turn them off for our own code.
set(SANPOLL_PCH_LIBRARIES "${SANPOLL_PCH}")
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  set(SANPOLL_PCH_LIBRARIES OFF)
endif()

function(sanpoll_precompiled_headers group)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;LIBS")
  if(NOT SANPOLL_PCH)
    return()
  endif()
  set(source "${PROJECT_BINARY_DIR}/precompiled_${group}.cpp")
  file(CONFIGURE OUTPUT "${source}" CONTENT "")
  add_library(sanpoll_precompiled_${group} OBJECT "${source}")
  sanpoll_for_executables(sanpoll_precompiled_${group})
  target_link_libraries(sanpoll_precompiled_${group} PRIVATE sanpoll_options ${arg_LIBS})
  list(TRANSFORM arg_HEADERS REPLACE "(.+)" "<\\1>")
  target_precompile_headers(sanpoll_precompiled_${group} PRIVATE ${arg_HEADERS})
endfunction()

function(sanpoll_precompile target group)
  get_target_property(type ${target} TYPE)
  if(NOT type STREQUAL "EXECUTABLE")
    sanpoll_for_executables(${target})
  endif()
  if(TARGET sanpoll_precompiled_${group})
    target_precompile_headers(${target} REUSE_FROM sanpoll_precompiled_${group})
  endif()
endfunction()

function(sanpoll_for_executables target)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${target} PRIVATE -fPIE)
endfunction()
