#!/usr/bin/env bash
# usage: install_tree.sh BUILD-FOLDER CONSUMER-FOLDER LIBDIR SANITIZER-FLAG
# CC and CXX name the compilers that the build used. The sanitizer's flag is empty in a plain build.
set -euo pipefail

build=$1 consumer=$2 libdir=$3 sanitize=$4

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

fail() { echo "install_tree: $*" >&2; exit 1; }

cmake --install "$build" --prefix "$prefix" >"$work/install.log" 2>&1 ||
    { cat "$work/install.log" >&2; fail "cmake --install failed"; }

for file in "$libdir/libsanpoll.so" "$libdir/libsanpoll_switch.a" "$libdir/pkgconfig/sanpoll.pc" \
    "$libdir/cmake/sanpoll/sanpoll-config.cmake" include/sanpoll/ws2spi.h include/sanpoll/ws2san.h \
    include/sanpoll/sanpoll.h include/sanpoll/switch.hpp bin/sanpoll-ping bin/sanpoll-info; do
    [[ -e $prefix/$file ]] || fail "$file is not installed"
done

# The environment's library is that of the build tree; here the installed one has to be found.
unset SANPOLL_LIBRARY
"$prefix/bin/sanpoll-ping" --help >/dev/null || fail "the installed sanpoll-ping does not start"

# The tree may be moved: nothing in it may know where it was installed or built.
mv "$prefix" "$work/moved"
prefix=$work/moved
if grep -rlF -e "$work/prefix" -e "$build" "$prefix/$libdir/pkgconfig" "$prefix/$libdir/cmake"; then
    fail "the files above name a folder of the build"
fi

# With find_package.
{
    cmake -S "$consumer" -B "$work/consumer" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" \
        -DCMAKE_C_FLAGS="$sanitize" -DCMAKE_CXX_FLAGS="$sanitize" &&
        cmake --build "$work/consumer"
} >"$work/consumer.log" 2>&1 ||
    { cat "$work/consumer.log" >&2; fail "the find_package consumer does not build"; }
"$work/consumer/consumer_c" || fail "the C consumer fails"
"$work/consumer/consumer_cpp" "$prefix/$libdir/libsanpoll.so" || fail "the C++ consumer fails"

# With pkg-config.
export PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig
# Flags are words: no quotes around them.
# shellcheck disable=SC2046,SC2086
"$CC" -std=c11 -Wall -Wextra -Wpedantic -Werror $sanitize "$consumer/consumer.c" \
    -o "$work/pc_c" $(pkg-config --cflags --libs sanpoll) -Wl,-rpath,"$prefix/$libdir" ||
    fail "the C consumer does not build with pkg-config"
"$work/pc_c" || fail "the C consumer that was built with pkg-config fails"

[[ $(pkg-config --variable=provider sanpoll) -ef $prefix/$libdir/libsanpoll.so ]] ||
    fail "sanpoll.pc names another library"
