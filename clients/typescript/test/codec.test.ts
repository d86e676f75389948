import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Codec } from "../src/codec.js";
import { Field } from "../src/gf.js";
import { Ring, WORD_MASK, valuation } from "../src/ring.js";
import { random, share } from "./support.js";

const element = (d: number) => fc.array(fc.bigInt({ min: 0n, max: WORD_MASK }), { minLength: d, maxLength: d });

describe("ring", () => {
  for (const d of [4, 5] as const) {
    const ring = new Ring(d);
    it(`laws of GR(2^128, ${d})`, () => {
      fc.assert(
        fc.property(element(d), element(d), element(d), (a, b, c) => {
          const mul = ring.multiply.bind(ring);
          assert.deepEqual(mul(a, b), mul(b, a));
          assert.deepEqual(mul(a, mul(b, c)), mul(mul(a, b), c));
          assert.deepEqual(mul(a, ring.add(b, c)), ring.add(mul(a, b), mul(a, c)));
          assert.deepEqual(mul(a, ring.lift(2)), ring.timesX(a));
          const byMatrix = ring.matrix(a).map((row) => row.reduce((sum, m, i) => sum + m * b[i]!, 0n) & WORD_MASK);
          assert.deepEqual(byMatrix, mul(a, b));
        }),
      );
    });
    it(`laws of GF(2^${d})`, () => {
      const field = new Field(d);
      for (let a = 0; a < 1 << d; a++) {
        assert.equal(field.multiply(a, field.inverse(a)), a === 0 ? 0 : 1);
        for (let b = 0; b < 1 << d; b++) assert.equal(field.multiply(a, b), field.multiply(b, a));
      }
    });
    it(`Lagrange coefficients interpolate, degree ${d}`, () => {
      const n = d === 4 ? 13 : 17;
      const shares = share([5n, 6n, 7n], n, 4, random(3));
      const parties = [2, 3, 7, 11, n];
      const columns = Math.ceil(3 / d);
      const at = (party: number) => Array.from({ length: d }, (_, c) => shares[party - 1]![c * columns]!);
      for (const party of [1, 5, 12]) {
        const value = ring
          .lagrange(parties, party)
          .reduce((sum, l, i) => ring.add(sum, ring.multiply(l, at(parties[i]!))), ring.lift(0));
        assert.deepEqual(value, at(party));
      }
    });
  }
  it("valuations", () => {
    for (const v of [0, 1, 31, 32, 63, 64, 100, 127]) assert.equal(valuation((3n << BigInt(v)) & WORD_MASK), v);
    assert.equal(valuation(0n), 128);
  });
});

describe("codec", () => {
  for (const [n, t] of [[4, 1], [7, 2], [10, 3], [13, 4], [16, 3]] as const) {
    it(`at most ${t} liars of ${n} never change a value and are named`, () => {
      fc.assert(
        fc.property(fc.integer({ min: 1, max: 1 << 30 }), (seed) => {
          const next = random(seed);
          const pick = (k: number) => Number(next() % BigInt(k));
          const codec = new Codec(n, t);
          const d = codec.ring.degree;
          const secrets = Array.from({ length: 1 + pick(12) }, next);
          const vectors = share(secrets, n, t, next);
          const liars = new Set(Array.from({ length: pick(t + 1) }, () => 1 + pick(n)));
          const wrong = new Set<number>();
          for (const liar of liars) {
            const words = vectors[liar - 1]!;
            for (let i = 0; i < words.length; i++) {
              const error = (next() << BigInt(pick(128))) & WORD_MASK;
              if (pick(2) === 0 && error !== 0n) {
                words[i] = (words[i]! + error) & WORD_MASK;
                wrong.add(liar);
              }
            }
          }
          const m = 2 * t + 1 + pick(n - 2 * t);
          const received = Array.from({ length: n }, (_, i) => i + 1).sort(() => (next() & 1n ? 1 : -1)).slice(0, m);
          const decoded = codec.decode(new Map(received.map((p) => [p, vectors[p - 1]!])));
          const present = received.filter((p) => wrong.has(p)).sort((a, b) => a - b);
          if (decoded) {
            assert.deepEqual(secrets.map((_, i) => decoded.values[Math.floor(i / d)]![i % d]), secrets);
            assert.deepEqual(decoded.culprits, present);
            assert.ok(decoded.agreeing.length >= 2 * t + 1);
          } else {
            assert.ok(present.length > m - (2 * t + 1), `${present.length} of ${m} are within the radius`);
          }
        }),
        { numRuns: 60 },
      );
    });
  }

  it("a low-weight codeword of t colluders is not believed", () => {
    const [n, t] = [13, 4];
    const codec = new Codec(n, t);
    const ring = codec.ring;
    const vectors = share([1n, 2n, 3n, 4n], n, t, random(9));
    // g of degree t vanishes at t honest parties: there f + g looks right too, but only 2t agree.
    for (let p = 1; p <= t; p++) {
      let g = [1n << 127n, 0n, 0n, 0n] as readonly bigint[];
      for (let zero = t + 1; zero <= 2 * t; zero++) g = ring.multiply(g, ring.subtract(ring.lift(p), ring.lift(zero)));
      vectors[p - 1] = vectors[p - 1]!.map((w, i) => (w + g[i]!) & WORD_MASK);
    }
    for (let m = 2 * t + 1; m <= n; m++) {
      const decoded = codec.decode(new Map(vectors.slice(0, m).map((v, i) => [i + 1, v])));
      if (!decoded) assert.ok(m < 3 * t + 1);
      else {
        assert.deepEqual(decoded.values[0], [1n, 2n, 3n, 4n]);
        assert.deepEqual(decoded.culprits, [1, 2, 3, 4]);
      }
    }
  });

  it("impossible committees are refused", () => {
    for (const [n, t] of [[3, 1], [4, 0], [6, 2], [32, 1]] as const) assert.throws(() => new Codec(n, t), RangeError);
  });
});
