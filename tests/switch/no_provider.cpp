// A library that is no provider: it has no entry point.
extern "C" __attribute__((visibility("default"))) int sanpoll_test_no_provider();
int sanpoll_test_no_provider() { return 0; }
