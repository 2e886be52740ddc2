# The public headers of the interface, as C11 and C++20, before and after the POSIX headers.
add_library(spi_headers_c STATIC
  ${CMAKE_CURRENT_LIST_DIR}/spi_headers_c.c
  ${CMAKE_CURRENT_LIST_DIR}/spi_headers_posix_first_c.c)
# With the C dialect's extensions off, glibc shows what POSIX has only when asked to.
target_compile_definitions(spi_headers_c PRIVATE _DEFAULT_SOURCE)
target_link_libraries(spi_headers_c PUBLIC sanpoll_spi PRIVATE sanpoll_options)

sanpoll_add_test(NAME spi_headers_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/spi_headers_test.cpp
    ${CMAKE_CURRENT_LIST_DIR}/spi_headers_posix_first_test.cpp
  LIBS spi_headers_c)
set_target_properties(spi_headers_test PROPERTIES DISABLE_PRECOMPILE_HEADERS ON)   # they come first
