"""Transformers whose circuit is known: RASP programs compiled by Tracr, bundled as weights or compiled from your own.

    compiled = compile_program(my_rasp_expression, ["a", "b"], max_length=4)      # needs the extra [tracr]
    compiled.save("models/mine")                                      # edge-pruning discover tracr:models/mine
"""

from edge_pruning.models.tracr.adapter import Tracr
from edge_pruning.models.tracr.compiling import compile_program
from edge_pruning.models.tracr.folder import Compiled, bundled_programs, compiled_folder
from edge_pruning.models.tracr.library import LIBRARY, library_program
from edge_pruning.models.tracr.program import Program

__all__ = ["LIBRARY", "Compiled", "Program", "Tracr", "bundled_programs", "compile_program", "compiled_folder",
           "library_program"]
