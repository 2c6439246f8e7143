#!/usr/bin/env bash
# Compares include/biv.h with the ABI that was promised, packaging/abi/: functions, types and constants
# may only be added, and a struct that begins with struct_size may grow at its end (docs/abi.md).
#
#   scripts/abi.sh               check
#   scripts/abi.sh --update      promise the present header
#   scripts/abi.sh --self-test   check that each kind of break is found and each addition allowed
#
# The contract is the header, which the build generates and `make symbols` compares with the library's
# exports. So what abidiff compares is made of it in a second: a C library in which each function is a stub,
# with debug information. Rust's own would describe the same types as Rust sees them, after a long build.
set -euo pipefail
cd "$(dirname "$0")/.."

header=include/biv.h
promised=packaging/abi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# describe HEADER OUT: the header's ABI as OUT/libbiv.abi and OUT/constants.
describe() {
  mkdir -p "$2"
  cc -E -dM -x c "$1" | sed -nE 's/^#define (BIV_[A-Z0-9_]+) (.+)/\1 \2/p' | grep -v '^BIV_VERSION' | sort > "$2/constants"
  {
    cat "$1"
    cc -E -P -x c "$1" | tr '\n' ' ' | sed 's/; */;\n/g' |
      sed -nE '/typedef/!s/^ *(.*\bbiv_[a-z0-9_]+\(.*\));$/\1 { __builtin_trap(); }/p'
  } > "$folder/stubs.c"
  local flags=(-std=c11 -g -shared -fPIC "-Wl,-soname,$(soname "$1")")
  (cd "$folder" && cc "${flags[@]}" stubs.c -o libbiv.so) || exit 2
  abidw --no-show-locs --no-corpus-path --no-comp-dir-path --no-elf-needed --no-parameter-names \
    --out-file "$2/libbiv.abi" "$folder/libbiv.so" || exit 2
}

soname() {
  local version
  version=$(sed -nE 's/^#define BIV_VERSION "([0-9]+\.[0-9]+)\..*/\1/p' "$1")
  echo "libbiv.so.$version"
}

# cut PROMISED NEW: in NEW, structs with struct_size end where PROMISED knows them to end: what is left is
# what old programs see. A member in what was padding stays, and abidiff finds it.
cut() {
  python3 - "$1" "$2" <<'PY'
import sys
import xml.etree.ElementTree as xml

promised, new = (xml.parse(path) for path in sys.argv[1:])
sizes = {struct.get("name"): int(struct.get("size-in-bits", 0)) for struct in promised.iter("class-decl")}
for struct in new.iter("class-decl"):
    size = sizes.get(struct.get("name"), 0)
    members = struct.findall("data-member")
    sized = members and members[0].find("var-decl").get("name") == "struct_size"
    if sized and int(struct.get("size-in-bits")) > size > 0:
        for member in members:
            if int(member.get("layout-offset-in-bits")) >= size:
                struct.remove(member)
        struct.set("size-in-bits", str(size))
new.write(sys.argv[2])
PY
}

# check HEADER: says what is broken.
check() {
  describe "$1" "$folder/new"
  cut "$promised/libbiv.abi" "$folder/new/libbiv.abi" || exit 2
  local missing
  missing=$(comm -23 "$promised/constants" "$folder/new/constants")
  if [ -n "$missing" ]; then
    printf 'These constants are gone or have other values:\n%s\n' "$missing"
    return 1
  fi
  abidiff --harmless --no-added-syms --no-show-locs "$promised/libbiv.abi" "$folder/new/libbiv.abi"
}

# expect kept|broken SED: what check says of the header after an edit.
expect() {
  sed -E "$2" "$header" > "$folder/edited.h"
  ! cmp -s "$header" "$folder/edited.h" || {
    echo "abi: the self-test's edit changes nothing: $2" >&2
    exit 1
  }
  local found=kept
  check "$folder/edited.h" > "$folder/said" 2>&1 || found=broken
  [ "$found" = "$1" ] || {
    cat "$folder/said"
    echo "abi: expected '$1', found '$found' after the edit: $2" >&2
    exit 1
  }
  edits=$((edits + 1))
}

self_test() {
  describe "$header" "$folder/promised"
  promised=$folder/promised
  edits=0
  local cancel='^biv_status biv_trainer_cancel\(struct biv_trainer \*trainer'
  # Functions.
  expect kept "s/$cancel\);/&\nbiv_status biv_trainer_pause(const struct biv_trainer *trainer);/"
  expect broken "/$cancel/d"
  expect broken "s/$cancel/&, int32_t now/"
  expect broken 's/^(biv_status biv_trainer_cancel\(struct) biv_trainer/\1 biv_model/'
  expect broken 's/biv_set_num_threads\(int32_t/biv_set_num_threads(uint32_t/'
  expect broken 's/^int32_t biv_abi_version/int64_t biv_abi_version/'
  expect broken 's/^typedef int32_t \(\*biv_epoch_callback\)\(void \*user/&, int32_t more/'
  expect broken 's/^typedef int32_t biv_status/typedef int64_t biv_status/'
  # Structs that say their size.
  expect kept 's/^\} biv_metrics;/  double median;\n&/'
  expect kept 's/^\} biv_epoch;/  double seconds;\n&/'
  expect broken 's/^  double rmse;/  double median;\n&/'
  expect broken '/^  double normalized_mae;/d'
  expect broken 's/^  double normalized_mae;/  float normalized_mae;/'
  expect broken 's/^  double mae;/  int64_t mae;/; s/^\} biv_metrics;/  double median;\n&/'
  expect broken 's/^  double mae;/  double mean_absolute_error;/; s/^\} biv_metrics;/  double median;\n&/'
  expect broken 's/^\} biv_progress;/  int32_t in_the_padding;\n&/'
  # Structs that do not.
  expect broken 's/^\} biv_array;/  int64_t more;\n&/'
  expect broken 's/^\} biv_array_out;/  int64_t more;\n&/'
  # Constants.
  expect kept 's/^#define BIV_F64 2/&\n#define BIV_BF16 3/'
  expect broken '/^#define BIV_F64 /d'
  expect broken 's/^(#define BIV_ERROR_SHAPE) 4/\1 40/'
  # The soname.
  expect broken 's/^(#define BIV_VERSION "[0-9]+)\./\1.9/'
  echo "abi: $edits edits of the header judged rightly"
}

if ! command -v abidiff > /dev/null; then
  echo "abi: SKIPPED: abidiff is not installed (Debian: abigail-tools)"
  exit 0
fi
case "${1:-}" in
  --update) describe "$header" "$promised" ;;
  --self-test) self_test ;;
  "")
    check "$header" || {
      echo "abi: programs that were built with the promised header break (above). Add instead of changing;" >&2
      echo "abi: or take a version with another soname and promise it: scripts/abi.sh --update (docs/abi.md)" >&2
      exit 1
    }
    echo "abi: $(soname "$header") keeps what was promised"
    ;;
  *)
    echo "usage: scripts/abi.sh [--update | --self-test]" >&2
    exit 2
    ;;
esac
