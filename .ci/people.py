#!/usr/bin/env python3
"""A people file that nobody has seen: people.py COUNT SEED. Forms of the demo's `--people`, values at random."""

import json
import random
import sys

count, seed = int(sys.argv[1]), sys.argv[2]
dice = random.Random(seed)
COUNTRIES = {"+49": 10, "+44": 10, "+1": 10, "+39": 9, "+549": 10, "+55": 11, "+81": 10, "+247": 5, "+8816": 8}
HOSTS = ["mail.example", "post.xn--bcher-kva.example", "a-b.sub.dept.corp.example", "xn--80ak6aa92e.example"]
MSPS = [f"msp{i}.{dice.choice(['example', 'chat.example', 'xn--p1b6ci4b4b3a.example'])}" for i in range(12)]
SHOWN = [["default"], ["business"], ["personal"], ["family"], ["business", "personal"], ["urn:example:club", "Ökokiste"]]
EXACT = ["soccer", "Straße 7", "猫", "https://club.example/members", "x" * 64]


def identifier():
    if dice.random() < 0.7:
        prefix, digits = dice.choice(list(COUNTRIES.items()))
        return f"tel:{prefix}{dice.randint(1, 9)}" + "".join(dice.choice("0123456789") for _ in range(digits - 1))
    local = "".join(dice.choice("abcdefghijkmnopqrstuvwxyzABC0123456789") for _ in range(dice.randint(1, 20)))
    return f"mailto:{local}{dice.choice(['', '+tag', '.x', '_y', '-z'])}@{dice.choice(HOSTS)}"


def mapping(msp):
    found = {"msp": msp, "account": f"mimi://{msp}/u/{dice.getrandbits(40):x}"}
    if dice.random() < 0.12:
        return found | {"tags": [], "exact_tag": dice.choice(EXACT)}
    return found | {"tags": dice.choice(SHOWN)}


seen = set()
while len(seen) < count:
    csi = identifier()
    if csi in seen:
        continue
    seen.add(csi)
    opted_out = dice.random() < 0.03
    mappings = [] if opted_out else [mapping(m) for m in dice.sample(MSPS, dice.choice([1, 1, 1, 2, 3, 4]))]
    print(json.dumps({"csi": csi, "opted_out": opted_out, "mappings": mappings}, ensure_ascii=False))
