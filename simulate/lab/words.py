"""What a report says besides its numbers: how to read each part."""

COARSE = "coarse: short windows and few repeats, made to be ready within minutes"
PROMISE = (
    "Promised are 1,000 users of any pattern with the default settings, and 10,000 with the edge "
    "cache on: p95 of the right answers at most 250 ms, 99.9 % answered right within 2 s."
)
PROMISE_ON_AWS = (
    "A stack on AWS is as large as its users are planned to need, so any number of users is "
    "promised p95 of the right answers at most 250 ms, and 99.9 % answered right within 2 s."
)
FROM_OUTSIDE = (
    "the stack was seen from outside alone: its CPU, its connections and which tier of a replica "
    "answered are not in here; CloudWatch has the first two"
)
CAPACITY = (
    "The most users with which p95 of the right answers is at most 250 ms and 99.9 % of all "
    "requests are answered right within 2 s, from the end of the arrival on; with the 95 % "
    'interval over the repeats. An arrow in the chart, and "at least", say that a search ended at '
    "the limit of the generator or of the plan."
)
FACTOR = "Below it stands x times the users of the setting it is measured against."
COMPARE = "The last column is the second against the first, with its 95 % interval; 1 is the same."
LEVERS = (
    "One setting is moved at a time. CPU is that of the median search, at the probe just below its "
    "result (without searches at the most users who did not miss the service level): where it goes "
    "is what a faster machine or another setting would have to save. The lab is what samples the "
    "stack meanwhile."
)
USERS = (
    "Solid: goodput, right answers within 2 s. Hatched on top of it: what was refused, wrong or "
    "late. Dashed: the model. Dotted: the capacity, where it was searched for. Users think 1 to "
    "2 s, so goodput is a straight line until the stack no longer keeps up."
)
TIME = (
    "Goodput is solid, what was refused stands hatched on top of it; the times are of right "
    "answers. The grey stretch is the window that was measured; before it users arrive and the "
    "stack warms up."
)
TIERS = (
    "All requests are in one of these, refused ones too. What nginx's cache answered and what "
    "failed is the generator's count, as no replica knows of it; the rest is shared out as the "
    "replicas' own counters are (/metrics). Where no answer comes from PostgreSQL, the numbers "
    "tell of the caches."
)
CONNECTIONS = (
    "Of all replicas together, from their own metrics, where each setting is busiest. In use, open "
    "and waiting are looked at once a second: what came and went between two looks is not in them. "
    "Without a pool there is no limit, and each read opens a connection; its wait is that. Flights "
    "joined: requests that waited for another one's read of the same location."
)
FAILURES = "Each setting just past its capacity, and every cell, where requests failed."
CPU = (
    "All cores are 100 %. The generator runs on the same machine and takes what is drawn as its "
    "part. With less than 5 % idle a cell is SATURATED: its times tell of waiting for a core."
)
OPEN_LOOP = (
    "Requests start on a schedule, whatever became of those before. The response time counts from "
    "when a request was due, the service time from when it was sent. A rate that was not held is "
    "UNSUSTAINED: it has a goodput, and its times only grow. With SCHED_RR (as root) the kernel "
    "lets the generator go first whenever a request is due: times with it and without are not "
    "comparable."
)
SCALABILITY = (
    "Universal Scalability Law (Gunther 2007): X(N) = lambda N / (1 + sigma (N - 1) + "
    "kappa N (N - 1)); sigma is contention, kappa coherency. "
)
REPLICAS = SCALABILITY + (
    "X is the capacity, N the number of replicas. The replicas shared the {cores} cores of one "
    "machine with PostgreSQL, Redis, nginx and the generator: the law says what a further replica "
    "adds on such a machine, nothing about replicas on machines of their own, and beyond the "
    "measured replicas it extrapolates. With three numbers of replicas or more, each is also left "
    "out and predicted from the others."
)
LAW = SCALABILITY + (
    "X is goodput, N hundreds of users; lambda is what so many send who think 1.5 s and wait for "
    "nothing. Below the knee goodput follows from this thinking, whatever the stack is, so sigma "
    "and kappa rest on the points around the knee; refusals make a sharper edge there than the law "
    "has. It says nothing of more users than were measured; the last rows say how wrong it can be."
)
CORES = (
    "The utilization law (Denning and Buzen 1978): a part is busy with rate x CPU per answer; "
    "users who think 1.5 s ask at users / 1.5 s at most. It is a lower bound, as nothing can be "
    "busy all the time. CPU per answer is that of this machine at the capacity, where all parts "
    "take turns on its cores; with fewer users an answer takes more of it."
)
MANIFEST = "This makes it again. Numbers of another machine are other numbers."
