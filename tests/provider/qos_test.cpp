// There is no quality of service: every function that could give it says so in the documented way.
#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class QosTest : public ProviderTest {
protected:
    WSABUF name{0, nullptr};
    QOS qos{};
};

TEST_F(QosTest, ByNameIsNotSupported) {
    EXPECT_EQ(san.qos_by_name(socket(), &name, &qos), WSAEOPNOTSUPP);
}

TEST_F(QosTest, ByNameIsNotSupportedWhateverTheArguments) {
    char16_t wanted[] = u"G711";
    WSABUF template_name{sizeof(wanted), reinterpret_cast<CHAR*>(wanted)};
    const SOCKET s = socket();
    EXPECT_EQ(san.qos_by_name(s, &template_name, &qos), WSAEOPNOTSUPP);
    EXPECT_EQ(san.qos_by_name(s, &template_name, nullptr), WSAEOPNOTSUPP);
    EXPECT_EQ(san.qos_by_name(s, nullptr, &qos), WSAEOPNOTSUPP);
    EXPECT_EQ(san.qos_by_name(s, nullptr, nullptr), WSAEOPNOTSUPP);
}

TEST_F(QosTest, ByNameLeavesTheCallersMemoryAlone) {
    char16_t wanted[] = u"\0rest";
    WSABUF template_name{sizeof(wanted), reinterpret_cast<CHAR*>(wanted)};
    qos.SendingFlowspec.TokenRate = 4711;
    EXPECT_EQ(san.qos_by_name(socket(), &template_name, &qos), WSAEOPNOTSUPP);
    EXPECT_EQ(qos.SendingFlowspec.TokenRate, 4711U);
    EXPECT_EQ(template_name.len, sizeof(wanted));
    EXPECT_EQ(wanted[1], u'r');
}

TEST_F(QosTest, ByNameOfAConnectionIsNotSupported) {
    Pair pair = connected();
    EXPECT_EQ(san.qos_by_name(pair.client.s, &name, &qos), WSAEOPNOTSUPP);
}

TEST_F(QosTest, ByNameNeedsASocket) {
    const SOCKET closed = socket();
    ASSERT_EQ(san.close(closed), 0);
    for (const SOCKET s : {static_cast<SOCKET>(INVALID_SOCKET), SOCKET{0}, closed}) {
        EXPECT_EQ(san.qos_by_name(s, &name, &qos), WSAENOTSOCK);
    }
}

TEST_F(QosTest, ByNameNeedsAProviderThatWasStarted) {  // project decision
    const SOCKET s = socket();
    stop();
    EXPECT_EQ(san.qos_by_name(s, &name, &qos), WSANOTINITIALISED);
}

TEST_F(QosTest, TheIoctlsNeedASocketFirst) {
    DWORD returned = 0;
    for (const DWORD code : {SIO_GET_QOS, SIO_SET_QOS, SIO_GET_GROUP_QOS, SIO_SET_GROUP_QOS}) {
        EXPECT_EQ(san.ioctl(INVALID_SOCKET, code, &qos, sizeof(qos), &qos, sizeof(qos), &returned),
                  WSAENOTSOCK);
        EXPECT_EQ(san.ioctl(socket(), code, nullptr, 0, nullptr, 0, &returned), WSAENOPROTOOPT);
    }
}

}  // namespace
}  // namespace sanpoll::test
