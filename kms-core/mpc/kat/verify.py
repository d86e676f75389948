#!/usr/bin/env python3
"""Checks the known-answer vectors of kms-algebra and kms-mpc with an implementation of its own.

Plain Python without packages, written from the protocol's description and not from the Rust code: slow, short, and
independent. Run it after changing a vector: python3 kms-core/mpc/kat/verify.py
"""

import hashlib
import json
import pathlib

HERE = pathlib.Path(__file__).parent
ALGEBRA = HERE.parent.parent / "algebra" / "kat"


# --- The ring GR(2^k, d) -----------------------------------------------------------------------------------------------

class Ring:
    def __init__(self, k, degree):
        self.mod, self.d = 1 << k, degree
        self.middle = {4: 1, 5: 2}[degree]
        self.zero, self.one = [0] * degree, [1] + [0] * (degree - 1)

    def add(self, a, b):
        return [(x + y) % self.mod for x, y in zip(a, b)]

    def sub(self, a, b):
        return [(x - y) % self.mod for x, y in zip(a, b)]

    def mul(self, a, b):
        c = [0] * (2 * self.d - 1)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                c[i + j] += x * y
        for top in range(2 * self.d - 2, self.d - 1, -1):  # X^d = -X^middle - 1
            c[top - self.d] -= c[top]
            c[top - self.d + self.middle] -= c[top]
        return [x % self.mod for x in c[: self.d]]

    def power(self, a, e):
        result = self.one
        while e:
            if e & 1:
                result = self.mul(result, a)
            a, e = self.mul(a, a), e >> 1
        return result

    def inverse(self, a):
        if all(x % 2 == 0 for x in a):
            return None
        # The unit group has order (2^d - 1) * 2^(d (k - 1)).
        k = self.mod.bit_length() - 1
        return self.power(a, ((1 << self.d) - 1) * (1 << (self.d * (k - 1))) - 1)

    def point(self, i):
        return [i >> j & 1 for j in range(self.d)]

    def lagrange(self, parties, at):
        row = []
        for b in parties:
            product = self.one
            for o in parties:
                if o != b:
                    product = self.mul(product, self.sub(at, self.point(o)))
                    product = self.mul(product, self.inverse(self.sub(self.point(b), self.point(o))))
            row.append(product)
        return row


# --- AES-128, CMAC, CTR ------------------------------------------------------------------------------------------------

def xtime(a):
    return (a << 1 ^ (0x11B if a & 0x80 else 0)) & 0xFF


def gmul(a, b):
    result = 0
    while b:
        result, a, b = result ^ (a if b & 1 else 0), xtime(a), b >> 1
    return result


def make_sbox():
    box = [0x63] * 256
    for a in range(1, 256):
        inverse = next(b for b in range(1, 256) if gmul(a, b) == 1)
        box[a] = 0x63
        for shift in range(5):
            box[a] ^= (inverse << shift | inverse >> (8 - shift)) & 0xFF
    return box


SBOX = make_sbox()


class Aes:
    def __init__(self, key):
        words = [list(key[i : i + 4]) for i in range(0, 16, 4)]
        constant = 1
        for i in range(4, 44):
            word = list(words[-1])
            if i % 4 == 0:
                word = [SBOX[b] for b in word[1:] + word[:1]]
                word[0] ^= constant
                constant = xtime(constant)
            words.append([x ^ y for x, y in zip(words[-4], word)])
        self.keys = [sum(words[i : i + 4], []) for i in range(0, 44, 4)]

    def encrypt(self, block):
        s = [x ^ y for x, y in zip(block, self.keys[0])]
        for i, key in enumerate(self.keys[1:], 1):
            s = [SBOX[s[(j + 4 * (j % 4)) % 16]] for j in range(16)]  # SubBytes and ShiftRows
            if i < 10:
                columns = []
                for c in range(0, 16, 4):
                    a = s[c : c + 4]
                    columns += [gmul(a[r], 2) ^ gmul(a[(r + 1) % 4], 3) ^ a[(r + 2) % 4] ^ a[(r + 3) % 4] for r in range(4)]
                s = columns
            s = [x ^ y for x, y in zip(s, key)]
        return bytes(s)


def cmac(key, message):
    aes = Aes(key)
    double = lambda b: ((int.from_bytes(b, "big") << 1) & ((1 << 128) - 1) ^ (0x87 if b[0] & 0x80 else 0)).to_bytes(16, "big")
    k1 = double(aes.encrypt(bytes(16)))
    blocks = [message[i : i + 16] for i in range(0, len(message), 16)] or [b""]
    last = blocks[-1]
    subkey = k1 if len(last) == 16 else double(k1)
    if len(last) < 16:
        last = last + b"\x80" + bytes(15 - len(last))
    blocks[-1] = bytes(x ^ y for x, y in zip(last, subkey))
    state = bytes(16)
    for block in blocks:
        state = aes.encrypt(bytes(x ^ y for x, y in zip(state, block)))
    return state


def stream(key, offset, length):
    aes = Aes(key)
    first, last = offset // 16, (offset + length + 15) // 16
    data = b"".join(aes.encrypt(i.to_bytes(16, "big")) for i in range(first, last))
    return data[offset - 16 * first :][:length]


assert Aes(bytes(range(16))).encrypt(bytes(0x11 * i for i in range(16))).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"
assert cmac(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), b"").hex() == "bb1d6929e95937287fa37d129b756746"


# --- PRSS --------------------------------------------------------------------------------------------------------------

def prss(kind, n, t, degree, party, keys, session, index):
    k = 64 if kind.endswith("_64") else 128
    ring, word = Ring(k, degree), k // 8
    purpose = {"uniform_64": 1, "uniform_128": 2, "uniform_z_64": 3, "uniform_z_128": 4, "zero_64": 5, "zero_128": 6, "mask": 7,
               "triple_64": 8, "triple_128": 9}[kind]
    one_word = "_z_" in kind or "triple" in kind
    size = 32 if kind == "mask" else word if one_word else degree * word * (t if "zero" in kind else 1)
    point, total = ring.point(party), ring.zero
    for item in keys:
        outside = [j for j in range(1, n + 1) if not item["set"] >> (j - 1) & 1]
        weight = ring.one
        for j in outside:
            weight = ring.mul(weight, ring.mul(ring.sub(ring.point(j), point), ring.inverse(ring.point(j))))
        key = cmac(bytes.fromhex(item["key"]), b"KMS-PRSS-1" + bytes([purpose]) + bytes.fromhex(session))
        data = stream(key, index * size, size)
        words = [int.from_bytes(data[i : i + word], "little") for i in range(0, size, word)]
        if kind == "mask":
            psi = ring.one[:]
            psi[0] = (sum(w % (1 << 111) for w in words) - (1 << 111)) % ring.mod
        elif one_word:
            psi = [words[0]] + ring.zero[1:]
        elif "zero" in kind:
            psi = ring.zero
            for j in range(t):
                chi = words[j * degree : (j + 1) * degree]
                psi = ring.add(psi, ring.mul(ring.power(point, j + 1), chi))
        else:
            psi = words
        total = ring.add(total, ring.mul(weight, psi))
    return total


# --- The vectors -------------------------------------------------------------------------------------------------------

def integers(words):
    return [int(w, 16) for w in words]


def load(path):
    return json.loads(path.read_text())


def check_ring():
    for v in load(ALGEBRA / "ring.json"):
        ring, a, b = Ring(v["k"], v["degree"]), integers(v["a"]), integers(v["b"])
        assert ring.add(a, b) == integers(v["sum"]) and ring.mul(a, b) == integers(v["product"])
        assert ring.inverse(a) == (v["inverse_of_a"] and integers(v["inverse_of_a"]))
    for v in load(ALGEBRA / "lagrange.json"):
        ring = Ring(v["k"], v["degree"])
        assert ring.lagrange(v["parties"], ring.point(v["at"])) == [integers(c) for c in v["coefficients"]]


def check_sessions():
    for v in load(HERE / "session.json"):
        if "parts" in v:
            data = b"KMS-JOB-1" + len(v["parts"]).to_bytes(4, "big")
            for p in v["parts"]:
                data += bytes.fromhex(p["session"]) + p["first"].to_bytes(4, "big") + p["blocks"].to_bytes(4, "big")
            assert hashlib.sha3_256(data).hexdigest() == v["job"]
        else:
            fields = [bytes.fromhex(v[f]) for f in ("context", "epoch", "key")]
            data = b"KMS-SESSION-1\x01" + b"".join(fields) + bytes([v["format"], v["decoder_version"]]) + bytes.fromhex(v["digest"])
            assert hashlib.shake_256(data).hexdigest(32) == v["session"]


def check_prss():
    for v in load(HERE / "prss.json"):
        kinds = ("uniform_64", "uniform_128", "uniform_z_64", "uniform_z_128", "zero_64", "zero_128", "mask", "triple_64",
                 "triple_128")
        for kind in kinds:
            share = prss(kind, v["n"], v["t"], v["degree"], v["party"], v["keys"], v["session"], v["index"])
            assert share == integers(v[kind]), kind


def check_decryption():
    for v in load(HERE / "decryption.json"):
        d, ring, packed = v["degree"], Ring(128, v["degree"]), {}
        for p in v["parties"]:
            secret, phases = [integers(c) for c in p["share"]], []
            for ct in v["ciphertexts"]:
                for j, (mask, body) in enumerate(zip(ct["masks"], integers(ct["bodies"]))):
                    dot = [sum(a * s for a, s in zip(integers(mask), row)) for row in secret]
                    phase = ring.sub([body] + ring.zero[1:], dot)
                    flood = prss("mask", v["n"], v["t"], d, p["party"], p["prss"], ct["session"], ct["first"] + j)
                    phases.append(ring.add(phase, flood))
            x, elements = [0, 1] + [0] * (d - 2), []
            for g in range(0, len(phases), d):
                element = ring.zero
                for j, phase in enumerate(phases[g : g + d]):
                    element = ring.add(element, ring.mul(ring.power(x, j), phase))
                elements.append(element)
            message = b"KMSP" + bytes([1, d, 16, 0]) + len(elements).to_bytes(4, "big")
            message += b"".join(e[c].to_bytes(16, "little") for c in range(d) for e in elements)
            assert message.hex() == p["message"]
            packed[p["party"]] = elements
        parties = sorted(packed)[: v["t"] + 1]
        opened = []
        for g in range(len(packed[parties[0]])):
            value = ring.zero
            for p, c in zip(parties, ring.lagrange(parties, ring.zero)):
                value = ring.add(value, ring.mul(c, packed[p][g]))
            opened += value
        rounded = [(c + (1 << 122)) % ring.mod >> 123 for c in opened]
        expected = sum(v["block_messages"], [])
        assert rounded[: len(expected)] == expected and not any(rounded[len(expected) :])


# --- PRSS set-up -------------------------------------------------------------------------------------------------------

def chacha20(key, block):
    """One block of 16 words; 64-bit counter, nonce 0."""
    words = [int.from_bytes(b"expand 32-byte k"[4 * i : 4 * i + 4], "little") for i in range(4)]
    words += [int.from_bytes(key[4 * i : 4 * i + 4], "little") for i in range(8)]
    words += [block & 0xFFFFFFFF, block >> 32, 0, 0]
    state = list(words)

    def quarter(a, b, c, d):
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & 0xFFFFFFFF
            state[z] ^= state[x]
            state[z] = (state[z] << turn | state[z] >> (32 - turn)) & 0xFFFFFFFF

    for _ in range(10):
        for i in range(4):
            quarter(i, i + 4, i + 8, i + 12)
        for i in range(4):
            quarter(i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12)
    return [(x + y) & 0xFFFFFFFF for x, y in zip(words, state)]


def check_prss_setup():
    """The keys are a function of what all dealers have shared, whatever the messages were: no message is looked at."""
    v = json.loads((HERE / "prss_setup.json").read_text())
    n, t, d = v["n"], v["t"], v["degree"]
    ring, outputs = Ring(64, d), n - 2 * t
    ids = bytes.fromhex(v["context_id"] + v["epoch_id"])
    session = hashlib.shake_256(b"KMS-SESSION-1" + bytes([2]) + ids + v["attempt"].to_bytes(4, "big")).digest(32)
    sets = [a for a in range(1 << n) if a.bit_count() == n - t]
    values = -(-len(sets) // outputs)
    secrets = {}
    for dealer, seed in enumerate(v["seeds"], 1):
        key = hashlib.shake_256(b"KMS-DEAL-1" + session + bytes([1, dealer]) + bytes.fromhex(seed)).digest(32)
        words = sum((chacha20(key, block) for block in range(values * d * 2 // 16 + 1)), [])
        longs = [low | high << 32 for low, high in zip(words[::2], words[1::2])]
        secrets[dealer] = [longs[i * d : (i + 1) * d] for i in range(values)]
    keys = []
    for q, a in enumerate(sets):
        x = ring.zero
        for dealer, shared in secrets.items():
            x = ring.add(x, ring.mul(ring.power(ring.point(dealer), q % outputs), shared[q // outputs]))
        element = b"".join(word.to_bytes(8, "little") for word in x)
        r = hashlib.shake_256(b"KMS-PRSS-KEY-1" + session + a.to_bytes(4, "big") + element).digest(16)
        if a & 1:
            keys.append({"set": a, "key": r.hex()})
    assert keys == v["keys"]


for check in (check_ring, check_sessions, check_prss, check_decryption, check_prss_setup):
    check()
    print(check.__name__, "ok")
