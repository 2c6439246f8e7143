#!/usr/bin/env bash
# Runs a program under valgrind: fails on invalid accesses and on memory that is lost.
# BIV_TEST_SMALL tells the test programs that every instruction is slow.
set -euo pipefail
if ! command -v valgrind > /dev/null; then
  echo "$1: SKIPPED under valgrind, which is not installed (apt-get install valgrind)"
  exit 0
fi
export OMP_NUM_THREADS=1 BIV_TEST_SMALL=1
# tests/c/log.c asks for some thousand threads.
exec valgrind -q --max-threads=5000 --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite "$@"
