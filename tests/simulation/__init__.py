"""The shop in a box: real domain code in virtual time, on engines that crash, delay, reorder, lose and lie.

Everything that decides runs unchanged: holds, orders, the order writer, payments, refunds, completers, the
rebuild and the reaper. What is fake is what stands around it: the event loop's clock (`loop`), the servers
(`seats` with its `commands`, `postgres` with its `statements`, `gateway`), the ways to them (`world`, `ways`)
and the people (`fans`). One
seed draws the hall, the people, every delay and every fault, so one number is a whole history, and the same
number is the same history again.
"""
