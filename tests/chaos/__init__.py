"""The campaign against the library's promises: `make chaos` runs it whole, the suite runs it small.

| to see | open |
| --- | --- |
| the command, and the table that it prints | `__main__`, `table` |
| what a network does to bytes | `proxy`, `manners` |
| what goes wrong, and in which state of the session | `weather`, `outages` |
| calls under all of it, and what they may end as | `storm`, `calls`, `witness`, `ledger`, `lag` |
| any order of steps, held against a small model | `model`, `told`, `clock` (and `../test_machine.py`) |
| hostile frames at a live client | `hostile`, `flood`, `frames`, `strategies`, `oracles` |
| the fuzzer, and what it keeps | `fuzz`, `engine`, `corpus/` |
| bulk runs that are killed | `kills` |
| an hour in which nothing may grow | `soak`, `soak_client`, `soak_report` |
| a fleet whose workers are killed | `fleet` |
| how tests run all these as programs | `programs` |
"""
