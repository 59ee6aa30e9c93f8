#!/bin/sh
# A copy that is a folder: live/data has a line an increment, live/position where it stands. It is what a user's command
# might be, and the driver's tests run it.
set -eu
case "$XMQ_OP" in
apply)
    body=$(cat)
    case "$body" in
    bad*) echo "this one is refused" >&2; exit 1 ;;
    lost*) echo "the copy is gone" >&2; exit 77 ;;
    syntax*) sh -c 'if' ;; # what a shell says of a script that it cannot read
    busy*) echo "later" >&2; exit 75 ;;
    odd*) echo "odd" >&2; exit 9 ;;
    code*) exit "${body#code }" ;;
    die*) kill -9 $$ ;;
    slow*) sleep 60 ;;
    esac
    mkdir -p live
    if [ -n "${KEEP:-}" ]; then # data and position in one file, replaced by one rename
        { cat live/data 2>/dev/null || true; echo "$body"; } >live/next
        echo "$XMQ_LOG $XMQ_SEQ $XMQ_CHAIN" >live/place
        mv live/place live/position
        mv live/next live/data
    else
        echo "$body" >>live/data
    fi
    case "$body" in
    done*) kill -9 $$ ;; # behind its work
    esac
    ;;
position) cat live/position 2>/dev/null || true ;;
seek)
    mkdir -p live
    echo "$XMQ_LOG $XMQ_SEQ $XMQ_CHAIN" >live/position
    ;;
dump) cat live/data 2>/dev/null || true ;;
discard) rm -rf fresh ;;
load)
    mkdir fresh
    cat >fresh/data
    [ -s fresh/data ] || rm fresh/data
    ;;
switch)
    echo "$XMQ_LOG $XMQ_SEQ $XMQ_CHAIN" >fresh/position
    rm -rf live
    mv fresh live
    ;;
empty) [ ! -e live/data ] ;;
env) env >&2; exit 1 ;;
*) exit 64 ;;
esac
