"""The package's declarations against the header, and what it says twice against the other place."""

import ctypes
import pathlib
import re
import typing
import unittest
from ctypes import c_double, c_int32, c_int64, c_size_t, c_uint64

import biv
from biv import _library, _records

ROOT = pathlib.Path(__file__).parents[3]
HEADER = (ROOT / "include/biv.h").read_text()
PLAIN = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)
# What the package does not call: other functions do the same for it.
UNUSED = {
    "biv_dataset_create_from_arrays", "biv_dataset_create_from_arrays_with_std", "biv_dataset_create_borrowed",
    "biv_trainer_load", "biv_last_error_message_from_one",
}
NUMBERS = {"biv_status": c_int32, "int32_t": c_int32, "int64_t": c_int64, "uint64_t": c_uint64, "size_t": c_size_t,
           "double": c_double, "void": None}


def c_kind(text):
    """What a C type is to ctypes: a number's type, or an address."""
    text = re.sub(r"\b(const|struct)\b", "", text).split()
    return "address" if "*" in "".join(text) or text[0].endswith("_callback") else NUMBERS[text[0]]


def python_kind(kind):
    is_address = kind in (ctypes.c_void_p, ctypes.c_char_p) or isinstance(kind, type) and issubclass(kind, ctypes._Pointer)
    return "address" if is_address else kind


class Declarations(unittest.TestCase):
    def test_functions(self):
        found = set()
        declared = {name: (c_int32, types) for name, types in _library.STATUS_FUNCTIONS.items()} | _library.OTHER_FUNCTIONS
        for result, name, parameters in re.findall(r"^([a-z][\w ]*?[ *]+)(biv_\w+)\(([^;{]*?)\);", PLAIN, re.MULTILINE):
            found.add(name)
            if name in UNUSED:
                continue
            kinds = [] if parameters.strip() == "void" else [c_kind(part) for part in parameters.split(",")]
            self.assertEqual([python_kind(kind) for kind in declared[name][1]], kinds, name)
            self.assertEqual(python_kind(declared[name][0]), c_kind(result), name)
        self.assertGreater(len(found), 50)
        self.assertEqual(found, set(declared) | UNUSED)

    def test_structs(self):
        ours = {struct.__name__: struct for struct in _records.STRUCTS.values()}
        ours |= {"biv_array": _library.Array, "biv_array_out": _library.Array}
        found = re.findall(r"typedef struct (biv_\w+) \{(.*?)\} \1;", PLAIN, re.DOTALL)
        self.assertEqual({name for name, _ in found}, set(ours))
        for name, body in found:
            fields = [field.strip() for field in body.split(";") if field.strip()]
            self.assertEqual([re.search(r"\w+$", field)[0] for field in fields], [field for field, _ in ours[name]._fields_])
            self.assertEqual([c_kind(re.sub(r"\w+$", "", field)) for field in fields],
                             [python_kind(kind) for _, kind in ours[name]._fields_], name)

    def test_numbers(self):
        for number, stage in enumerate(typing.get_args(_records.Stage), 1):
            self.assertIn(f"#define BIV_STAGE_{stage.upper()} {number}\n", HEADER)
        for number, verdict in enumerate(typing.get_args(_records.Verdict), 1):
            self.assertIn(f"#define BIV_VERDICT_{verdict.upper().replace('-', '_')} {number}\n", HEADER)
        self.assertEqual(len(re.findall("#define BIV_(STAGE|VERDICT)_", HEADER)), number + len(typing.get_args(_records.Stage)))
        for level, number in biv._runtime.LEVELS.items():
            self.assertIn(f"#define BIV_LOG_{level.upper()} {number}\n", HEADER)
        self.assertIn(f"#define BIV_ABI_VERSION {_library.ABI_VERSION}\n", HEADER)
        for name in biv._errors.CLASSES:
            self.assertRegex(HEADER, rf"#define BIV_ERROR_{name} \d+\n")

    def test_versions(self):
        project = (ROOT / "bindings/python/pyproject.toml").read_text()
        version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        self.assertIn(f'\nversion = "{version}"\n', project)
        self.assertEqual(biv.__version__, version)
        self.assertIn(f'"torch=={_library.TORCH_VERSION}"', project)
        self.assertIn(f'\nVERSION = "{_library.TORCH_VERSION}"\n', (ROOT / "scripts/libtorch.py").read_text())

    def test_all_is_documented(self):
        for name in biv.__all__:
            thing = getattr(biv, name)
            self.assertTrue(thing.__doc__, name)
            for method, value in vars(thing).items() if isinstance(thing, type) else ():
                if not method.startswith("_") and callable(value):
                    self.assertTrue(value.__doc__, f"{name}.{method}")
