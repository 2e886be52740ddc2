// A library that has the functions of libmimalloc and says that it is of another version.
#define FUNCTION(name) \
    extern "C" __attribute__((visibility("default"))) void name() {}
FUNCTION(mi_manage_os_memory_ex)
FUNCTION(mi_heap_new_in_arena)
FUNCTION(mi_heap_malloc)
FUNCTION(mi_heap_malloc_aligned)
FUNCTION(mi_heap_delete)
FUNCTION(mi_free)
FUNCTION(mi_usable_size)

extern "C" __attribute__((visibility("default"))) int mi_version() { return 217; }
