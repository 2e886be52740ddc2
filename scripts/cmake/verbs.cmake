# The headers of rdma-core. Its libraries are opened at run time (engine/fabric/verbs/api.hpp) and never
# linked: a host without RDMA devices does not need them.

foreach(header IN ITEMS infiniband/verbs.h rdma/rdma_cma.h)
  string(MAKE_C_IDENTIFIER "SANPOLL_${header}" variable)
  find_path(${variable} ${header} REQUIRED)
  mark_as_advanced(${variable})
endforeach()
