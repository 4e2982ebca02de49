"""The router: it reads events, answers and results, decides, and sends what follows.

ingress          events, answers, commands -> the inbox of the partition they belong to
copies           what ingress makes of each of them
owner            one log partition: inputs -> decisions -> log -> effects
decider          one input -> one decision, encoded and applied to the state
partition_clock  a partition's time, and whether the broker's clock has jumped
careful_mode     one input at a time, after several owners that came to nothing
flight           a batch on its way to the log
takeover         how partitions are taken, all new ones at once
timers           what is due, and not before the inputs that came before it
definitions      route versions by digest
directory        who may answer, and which agents there are
membership       the router's part in its group, which shares the partitions out
holdings         the partitions of a router, and their owners
router           the process around them
"""
