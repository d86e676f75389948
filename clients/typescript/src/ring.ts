/**
 * The Galois ring GR(2^128, d) = Z_2^128[X]/F(X), F = X^4 + X + 1 (d = 4) or X^5 + X^2 + 1 (d = 5). An element is its d
 * coefficients by ascending power, each in [0, 2^128).
 *
 * Source: ePrint 2023/815, §2.
 */

import { Field } from "./gf.js";

/** An element: d coefficients. */
export type Element = readonly bigint[];

/** Bits of a word. */
export const WORD_BITS = 128;
/** 2^128 − 1. */
export const WORD_MASK = (1n << 128n) - 1n;

/** Exponent of the largest power of two that divides the word; 128 for 0. */
export function valuation(word: bigint): number {
  if (word === 0n) return WORD_BITS;
  let v = 0;
  while ((word & 0xffffffffn) === 0n) {
    word >>= 32n;
    v += 32;
  }
  const low = Number(word & 0xffffffffn);
  return v + 31 - Math.clz32(low & -low);
}

/** Arithmetic of one ring. */
export class Ring {
  /** The residue field. */
  readonly field: Field;
  /** X^d = −X^middle − 1. */
  private readonly middle: number;
  private readonly inverses = new Map<number, Element>();

  constructor(readonly degree: 4 | 5) {
    this.field = new Field(degree);
    this.middle = degree === 4 ? 1 : 2;
  }

  /** The lift of a residue: its bits as coefficients. The point of party i is the lift of i, that of the secret 0. */
  lift(residue: number): Element {
    return Array.from({ length: this.degree }, (_, j) => BigInt((residue >> j) & 1));
  }

  add(a: Element, b: Element): Element {
    return a.map((x, j) => (x + b[j]!) & WORD_MASK);
  }

  subtract(a: Element, b: Element): Element {
    return a.map((x, j) => (x - b[j]!) & WORD_MASK);
  }

  /** The product with X. */
  timesX(a: Element): Element {
    const top = a[this.degree - 1]!;
    const out = [0n, ...a.slice(0, -1)];
    out[0] = -top & WORD_MASK;
    out[this.middle] = (out[this.middle]! - top) & WORD_MASK;
    return out;
  }

  multiply(a: Element, b: Element): Element {
    const d = this.degree;
    const wide = new Array<bigint>(2 * d - 1).fill(0n);
    for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) wide[i + j]! += a[i]! * b[j]!;
    for (let top = 2 * d - 2; top >= d; top--) {
      wide[top - d]! -= wide[top]!;
      wide[top - d + this.middle]! -= wide[top]!;
    }
    return wide.slice(0, d).map((c) => c & WORD_MASK);
  }

  /** The matrix M of the multiplication with an element: (a·x)_r = Σ_c M[r][c]·x_c. */
  matrix(a: Element): bigint[][] {
    const rows: bigint[][] = Array.from({ length: this.degree }, () => []);
    let column = a;
    for (let c = 0; c < this.degree; c++) {
      column.forEach((word, r) => rows[r]!.push(word));
      column = this.timesX(column);
    }
    return rows;
  }

  /** The inverse of a unit. */
  private inverse(a: Element): Element {
    const residue = a.reduce((bits, c, j) => bits | (Number(c & 1n) << j), 0);
    if (residue === 0) throw new RangeError("no unit");
    const two = this.lift(0).map((_, j) => (j === 0 ? 2n : 0n));
    let x = this.lift(this.field.inverse(residue));
    // Newton: each step doubles the number of right low bits, from 1 to 128.
    for (let i = 0; i < 7; i++) x = this.multiply(x, this.subtract(two, this.multiply(a, x)));
    return x;
  }

  /** 1 / (α_a − α_b) for two different points, kept for the next time. */
  private inverseDifference(a: number, b: number): Element {
    const known = this.inverses.get(32 * a + b);
    if (known) return known;
    const inverse = this.inverse(this.subtract(this.lift(a), this.lift(b)));
    this.inverses.set(32 * a + b, inverse);
    return inverse;
  }

  /** λ_b with f(α_at) = Σ_b λ_b·f(α_b) for all f of degree < number of parties; `at` is a party or 0. */
  lagrange(parties: readonly number[], at: number): Element[] {
    const point = this.lift(at);
    return parties.map((b) => {
      let product = this.lift(1);
      for (const other of parties) {
        if (other === b) continue;
        product = this.multiply(product, this.subtract(point, this.lift(other)));
        product = this.multiply(product, this.inverseDifference(b, other));
      }
      return product;
    });
  }
}
