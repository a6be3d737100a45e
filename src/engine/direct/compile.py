"""Compiles modules: reads [[source, path in the image, result], ...] from standard input; names those that cannot be.

Each is compiled in a process of its own that begins in the same state: what is written depends on which strings are known
to the process already (CPython issue 78274), and so would on the modules that were compiled before.
"""
import json
import os
import py_compile
import sys


def compile_one(number, source, path, result):
    try:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(source, cfile=result, dfile=path, doraise=True, optimize=0, invalidation_mode=mode)
    except (py_compile.PyCompileError, SyntaxError, ValueError, RecursionError):
        os.write(1, b"%d\n" % number)


wanted = json.load(sys.stdin)
running = 0
for number, one in enumerate(wanted):
    if running == (os.cpu_count() or 1):
        if os.wait()[1]:
            sys.exit("a compiler was ended")
        running -= 1
    if os.fork() == 0:
        code = 1
        try:
            compile_one(number, *one)
            code = 0
        finally:
            os._exit(code)
    running += 1
for _ in range(running):
    if os.wait()[1]:
        sys.exit("a compiler was ended")
