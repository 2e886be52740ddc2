# sanpoll_add_test(NAME <name> SOURCES <file>... [LIBS <target>...] [TIMEOUT <seconds>]
#                  [LABELS <label>...] [ONE_CPU] [ONE_CPU_TESTS <regex>] [TWO_CPU_TESTS <regex>] [OPTIMISED])
#
# A GoogleTest program, build/<preset>/bin/tests/<name>. Each of its tests is a ctest test of its own,
# so that a failure is named; TIMEOUT (300 s if not given) holds for each of them. ONE_CPU: one thread does their work, so
# that ctest, which the presets let use two CPUs, may run two of them at a time; all others want both. ONE_CPU_TESTS and
# TWO_CPU_TESTS say it of the tests with such a name, <suite>.<test>, against what holds for the program. OPTIMISED: they look
# at so many bytes that they take longer than a compiler that optimises them, also with the address sanitizer.
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
      # A process with threads at its end waits for their races with what ends: a tenth of a second instead of a second. Of
      # some ninety tests it was most of their time. Threads that poll are at it by then; one that sleeps longer is seen less.
      set(settings "halt_on_error=1:second_deadlock_stack=1:atexit_sleep_ms=100")
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

# Where tests/CMakeLists.txt turns the optimiser off, turns it on again, for one program.
function(sanpoll_optimise_test target)
  if(SANPOLL_SANITIZE MATCHES "address")
    target_compile_options(${target} PRIVATE -O1)
    sanpoll_precompile(${target} optimised_tests)
  else()
    sanpoll_precompile(${target} tests)
  endif()
endfunction()

# Appends to `text` what gives those of the discovered tests whose names match, unless `regex` is empty, so many processors.
function(sanpoll_test_processors text list regex processors)
  if(regex)
    set(${text} "${${text}}foreach(test IN LISTS ${list})
  if(test MATCHES [==[${regex}]==])
    set_tests_properties(\"\${test}\" PROPERTIES PROCESSORS ${processors})
  endif()
endforeach()\n" PARENT_SCOPE)
  endif()
endfunction()

function(sanpoll_add_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "ONE_CPU;OPTIMISED" "NAME;TIMEOUT;ONE_CPU_TESTS;TWO_CPU_TESTS"
    "SOURCES;LIBS;LABELS")
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
  if(arg_OPTIMISED)
    sanpoll_optimise_test(${arg_NAME})
  else()
    sanpoll_precompile(${arg_NAME} tests)
  endif()

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
  sanpoll_test_processors(properties ${arg_NAME}_TESTS "${arg_ONE_CPU_TESTS}" 1)
  sanpoll_test_processors(properties ${arg_NAME}_TESTS "${arg_TWO_CPU_TESTS}" 2)
  set(file "${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}_properties.cmake")
  file(WRITE "${file}" "if(${arg_NAME}_TESTS)\n${properties}endif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${file}")
endfunction()
