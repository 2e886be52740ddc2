# What `cmake --install` lays down: headers, libraries, sanpoll.pc and the CMake package. A target that is not built is left out.

include(CMakePackageConfigHelpers)

set(header_dir "${CMAKE_INSTALL_INCLUDEDIR}/sanpoll")
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/sanpoll")

set(exported)
foreach(target IN ITEMS sanpoll_spi sanpoll sanpoll_switch)
  if(TARGET ${target})
    list(APPEND exported ${target})
    string(REPLACE "sanpoll_" "" export_name "${target}")   # sanpoll::spi, ::sanpoll, ::switch
    set_target_properties(${target} PROPERTIES EXPORT_NAME "${export_name}")
  endif()
endforeach()

if(exported)
  install(TARGETS ${exported} EXPORT sanpoll
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    INCLUDES DESTINATION "${header_dir}" "${CMAKE_INSTALL_INCLUDEDIR}")
  install(EXPORT sanpoll NAMESPACE sanpoll:: FILE sanpoll-targets.cmake
    DESTINATION "${package_dir}")
endif()

foreach(program IN ITEMS sanpoll-ping sanpoll-info)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endforeach()

# <ws2san.h> has its own folder, so that it never meets a Windows SDK's; <sanpoll/switch.hpp> brings
# its folder with it.
install(DIRECTORY "${PROJECT_SOURCE_DIR}/provider/include/" DESTINATION "${header_dir}"
  FILES_MATCHING PATTERN "*.h")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/switch/include/" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.hpp")

# The .pc file finds its prefix from its own place, so an installed tree can be moved.
set(pc_dir "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
file(RELATIVE_PATH pc_to_prefix "/prefix/${pc_dir}" "/prefix")
string(REGEX REPLACE "/$" "" pc_to_prefix "${pc_to_prefix}")
configure_file("${PROJECT_SOURCE_DIR}/scripts/cmake/sanpoll.pc.in"
  "${PROJECT_BINARY_DIR}/sanpoll.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/sanpoll.pc" DESTINATION "${pc_dir}")

configure_package_config_file("${PROJECT_SOURCE_DIR}/scripts/cmake/sanpoll-config.cmake.in"
  "${PROJECT_BINARY_DIR}/sanpoll-config.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/sanpoll-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/sanpoll-config.cmake"
  "${PROJECT_BINARY_DIR}/sanpoll-config-version.cmake" DESTINATION "${package_dir}")
