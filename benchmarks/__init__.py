"""Timing of the kit next to its peers. Not part of the package: run from a checkout of the project.

python -m benchmarks            engine against `generate`, estimators against plain loops
python -m benchmarks.store      what the log costs per sample
python -m benchmarks.workers    two Dask workers against one
python -m benchmarks.imports    reading a million samples of other tools
python -m benchmarks.explorer   each change of the explorer in a notebook
python -m benchmarks.against_vllm PYTHON    vLLM, in an environment of its own
"""
