# sanpoll_add_test(NAME <name> SOURCES <file>... [LIBS <target>...] [TIMEOUT <seconds>]
#                  [LABELS <label>...] [ONE_CPU])
#
# A GoogleTest program, build/<preset>/bin/tests/<name>. Each of its tests is a ctest test of its own,
# so that a failure is named; TIMEOUT (300 s if not given) holds for each of them. ONE_CPU: one thread does their work, so
# that ctest, which the presets let use two CPUs, may run two of them at a time; all others want both.
#
# The tests find in their environment:
#   SANPOLL_LIBRARY   path of the built libsanpoll.so
#   SANPOLL_BIN_DIR   folder of the built programs

find_package(GTest REQUIRED)
include(GoogleTest)

# Settings of the sanitizers, with tests/<sanitizer>.supp where there is one.
function(sanpoll_test_environment out)
  set(environment
    "SANPOLL_LIBRARY=${PROJECT_BINARY_DIR}/lib/libsanpoll.so"
    "SANPOLL_BIN_DIR=${PROJECT_BINARY_DIR}/bin"
    "UCX_MEM_EVENTS=no")   # the thread sanitizer does not survive that UCX patches mmap
  foreach(sanitizer IN ITEMS asan lsan ubsan tsan)
    if(sanitizer STREQUAL "asan")
      set(settings "detect_stack_use_after_return=1:strict_string_checks=1")
    elseif(sanitizer STREQUAL "lsan")
      set(settings "print_suppressions=0")
    elseif(sanitizer STREQUAL "ubsan")
      set(settings "print_stacktrace=1:halt_on_error=1")
    else()
      set(settings "halt_on_error=1:second_deadlock_stack=1")
    endif()
    set(suppressions "${PROJECT_SOURCE_DIR}/tests/${sanitizer}.supp")
    if(EXISTS "${suppressions}")
      string(APPEND settings ":suppressions=${suppressions}")
    endif()
    string(TOUPPER "${sanitizer}" variable)
    list(APPEND environment "${variable}_OPTIONS=${settings}")
  endforeach()
  set(${out} "${environment}" PARENT_SCOPE)
endfunction()

function(sanpoll_add_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "ONE_CPU" "NAME;TIMEOUT" "SOURCES;LIBS;LABELS")
  if(NOT arg_NAME OR NOT arg_SOURCES OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "sanpoll_add_test: NAME and SOURCES are needed; not understood: "
      "'${arg_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  set(processors 2)
  if(arg_ONE_CPU)
    set(processors 1)
  endif()

  add_executable(${arg_NAME} ${arg_SOURCES})
  set_target_properties(${arg_NAME} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin/tests")
  target_link_libraries(${arg_NAME} PRIVATE sanpoll_options ${arg_LIBS} GTest::gtest_main)
  sanpoll_precompile(${arg_NAME} tests)

  # Tests load the library at run time, so nothing else makes it be built before them.
  foreach(needed IN ITEMS sanpoll sanpoll-ping)
    if(TARGET ${needed})
      add_dependencies(${arg_NAME} ${needed})
    endif()
  endforeach()

  gtest_discover_tests(${arg_NAME}
    DISCOVERY_MODE PRE_TEST
    DISCOVERY_TIMEOUT 120
    TEST_PREFIX "${arg_NAME}."
    TEST_LIST ${arg_NAME}_TESTS
    PROPERTIES TIMEOUT ${arg_TIMEOUT} PROCESSORS ${processors})

  # Properties whose values are lists do not survive gtest_discover_tests; ctest sets them when it has
  # read what was discovered.
  sanpoll_test_environment(environment)
  set(properties "set_tests_properties(\${${arg_NAME}_TESTS} PROPERTIES ENVIRONMENT [==[${environment}]==])\n")
  if(arg_LABELS)
    string(APPEND properties
      "set_tests_properties(\${${arg_NAME}_TESTS} PROPERTIES LABELS [==[${arg_LABELS}]==])\n")
  endif()
  set(file "${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}_properties.cmake")
  file(WRITE "${file}" "if(${arg_NAME}_TESTS)\n${properties}endif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${file}")
endfunction()
