"""A feeder of twelve buses, two substations and a device of every kind, for tests of devices."""

from feederguard.models.network import Devices
from feeders import feeder

# Name, branch, end, kind, and `open` where it is normally open.
DEVICES = """
    B1 a 0 breaker        R1 b 0 recloser      D1 b 1 disconnector   L1 c 0 load_break
    F1 d 0 fuse           D2 e 0 disconnector  B2 f 0 breaker        L2 g 0 load_break
    L3 g 1 load_break     K  K 0 breaker       F2 m 0 fuse           T1 t 0 load_break open
    T2 t 1 disconnector   U1 u 1 load_break open
"""
BRANCHES = "a:0-1 b:1-2 c:2-3 d:2-4 e:1-5 f:6-7 g:7-8 h:8-9 K:7-10 m:10-11 t:3~9 u:5~10"


def switched_feeder(**changes):
    """Return the feeder below; a device stands where its name does, next to the bus at that end.

    0 -B1--a--- 1 -R1--b--D1- 2 -L1--c-- 3 -T1 ~t~ T2- 9
                |             |                        |
                D2 e -- 5     F1 d -- 4                h
                        |                              |
                        ~u~ U1- 10                     |
                                                       |
    6 -B2--f--- 7 -L2--g--L3- 8 -----------------------+
                |
                K --- 10 -F2--m-- 11

    0 and 6 are substations, K is a coupler, m a transformer; the ties t and u are open at T1 and
    U1. Every other bus draws as many kW as its number.
    """
    words = DEVICES.split()
    rows: list[list[str]] = []
    for word in words:
        if word == "open" or len(rows) and len(rows[-1]) < 4:
            rows[-1].append(word)
        else:
            rows.append([word])
    names = [branch.partition(":")[0] for branch in BRANCHES.split()]
    devices = Devices(
        name=[row[0] for row in rows],
        branch=[names.index(row[1]) for row in rows],
        end=[int(row[2]) for row in rows],
        kind=[row[3] for row in rows],
        closed=["open" not in row for row in rows],
        remote=[row[3] in ("breaker", "recloser") for row in rows],
        minutes=[1.0 if row[3] in ("breaker", "recloser") else 30.0 for row in rows],
        available=[True] * len(rows),
    )
    kind = {"K": "coupler", "m": "trafo", "t": "tie", "u": "tie"}
    given = {
        "kind": [kind.get(name, "line") for name in names],
        "r": [0.0 if name == "K" else 0.01 for name in names],
        "x": [1e-12 if name == "K" else 0.01 for name in names],
        "p_load": [0.0 if bus in (0, 6) else bus / 1e3 for bus in range(12)],
        "substation": [0, 6],
        "v_substation": [1.0, 1.0],
        "devices": devices,
    }
    return feeder(BRANCHES, **(given | changes))
