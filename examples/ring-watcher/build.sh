#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# build.sh COMPILER PROGRAM [FLAGS...]: compiles the watcher, for Windows if the compiler does.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
compiler=$1 program=$2
shift 2
port="port_hosted.c" libraries=""
case $("$compiler" -dumpmachine) in
*mingw* | *windows*) port="port_windows.c" libraries="-lfltlib" ;;
esac
cd "$here"
exec "$compiler" -std=c11 -O2 -g -Wall -Wextra -Werror "$@" -I../../include \
    main.c orders.c service.c schema.c stream.c rings.c tally.c $port -o "$program" $libraries
