/**
 * Decoding of degree-t sharings with at most t wrong shares.
 *
 * A share vector holds the packed elements of one party; a column is the same element of all parties. The parity check of
 * the received set maps a column to its syndrome; a zero syndrome proves that the column lies on one polynomial of degree
 * ≤ t. Otherwise the column is decoded by lifting: with v the valuation of the syndrome S, the word (0, …, 0, S/2^v mod 2)
 * over GF(2^d) is decoded by Berlekamp–Welch, the positions found are erased for the whole message, and the smaller set is
 * tried again. A value is accepted only if 2t + 1 shares lie on one polynomial; culprits are those, and only those, whose
 * shares differ from it.
 *
 * Source: ePrint 2023/815 §4; Abspoel et al., TCC 2019, §3.3.
 */

import { type Element, Ring, WORD_BITS, WORD_MASK, valuation } from "./ring.js";

/** Words of one party, coefficient-major: the constant coefficients of all elements, then those of X, … */
export type ShareVector = readonly bigint[];

/** A decided batch. */
export interface Decoded {
  /** f(0) of every column. */
  readonly values: readonly Element[];
  /** At least 2t + 1 parties on the accepted polynomials. */
  readonly agreeing: readonly number[];
  /** Parties whose share differs somewhere. */
  readonly culprits: readonly number[];
}

interface Matrices {
  readonly base: readonly number[];
  readonly checked: readonly number[];
  /** Per checked party and coefficient a row over the words of the base. */
  readonly check: readonly bigint[][][];
  /** Per coefficient a row over the words of the base: the secret. */
  readonly open: readonly bigint[][];
}

/** Degree of the ring of a committee. */
export function degreeFor(n: number): 4 | 5 {
  return n <= 15 ? 4 : 5;
}

/** Decoder of one committee. */
export class Codec {
  /** The ring. */
  readonly ring: Ring;

  constructor(
    readonly n: number,
    readonly t: number,
  ) {
    if (!Number.isInteger(n) || !Number.isInteger(t) || n > 31 || t < 1 || n < 3 * t + 1) {
      throw new RangeError(`${n} parties can't tolerate ${t} faults`);
    }
    this.ring = new Ring(degreeFor(n));
  }

  /** Shares that are needed at least: 2t + 1. */
  get needed(): number {
    return 2 * this.t + 1;
  }

  /** Decodes one message; `undefined`: not decided by these shares, try again with more. */
  decode(shares: ReadonlyMap<number, ShareVector>): Decoded | undefined {
    const received = [...shares.keys()].sort((a, b) => a - b);
    if (received.length < this.needed) return undefined;
    const d = this.ring.degree;
    const columns = shares.get(received[0]!)!.length / d;
    for (const share of shares.values()) if (share.length !== columns * d) throw new RangeError("shares of different lengths");
    const word = (party: number, column: number, c: number) => shares.get(party)![c * columns + column]!;
    const most = Math.min(received.length - this.needed, this.t);

    const values: Element[] = [];
    const erased = new Set<number>();
    let agreeing: readonly number[];
    for (;;) {
      const set = received.filter((party) => !erased.has(party));
      const matrices = this.matrices(set);
      const stopped = this.openColumns(matrices, word, columns, values);
      if (stopped === undefined) {
        agreeing = set;
        break;
      }
      const wrong = this.locate(set, stopped, most - erased.size);
      if (!wrong) return undefined;
      for (const party of wrong) erased.add(party);
    }
    const base = agreeing.slice(0, this.t + 1);
    const culprits = [...erased].filter((party) => this.differs(base, party, word, columns)).sort((a, b) => a - b);
    return { values, agreeing, culprits };
  }

  private matrices(set: readonly number[]): Matrices {
    const base = set.slice(0, this.t + 1);
    const checked = set.slice(this.t + 1);
    const expand = (at: number) => this.expand(this.ring.lagrange(base, at));
    return { base, checked, check: checked.map(expand), open: expand(0) };
  }

  /** Rows over words for a row of ring elements. */
  private expand(row: readonly Element[]): bigint[][] {
    const matrices = row.map((element) => this.ring.matrix(element));
    return Array.from({ length: this.ring.degree }, (_, c) => matrices.flatMap((m) => m[c]!));
  }

  /** Opens columns until one has a syndrome other than zero, and returns that syndrome. */
  private openColumns(
    matrices: Matrices,
    word: (party: number, column: number, c: number) => bigint,
    columns: number,
    values: Element[],
  ): Element[] | undefined {
    const d = this.ring.degree;
    for (let column = values.length; column < columns; column++) {
      const words = matrices.base.flatMap((party) => Array.from({ length: d }, (_, c) => word(party, column, c)));
      const syndrome = matrices.checked.map((party, i) =>
        matrices.check[i]!.map((row, c) => (word(party, column, c) - dot(row, words)) & WORD_MASK),
      );
      if (syndrome.some((s) => s.some((c) => c !== 0n))) return syndrome;
      values.push(matrices.open.map((row) => dot(row, words) & WORD_MASK));
    }
    return undefined;
  }

  /** Error positions by one step of the lifting, as parties; `undefined` if there are more than `radius`. */
  private locate(set: readonly number[], syndrome: readonly Element[], radius: number): number[] | undefined {
    if (radius <= 0) return undefined;
    const all = syndrome.reduce((or, s) => s.reduce((o, c) => o | c, or), 0n);
    const v = valuation(all);
    if (v >= WORD_BITS) return undefined;
    const residues = syndrome.map((s) => s.reduce((bits, c, j) => bits | (Number((c >> BigInt(v)) & 1n) << j), 0));
    const word = [...new Array<number>(this.t + 1).fill(0), ...residues];
    return this.ring.field.errorPositions(set, word, this.t, radius)?.map((i) => set[i]!);
  }

  private differs(
    base: readonly number[],
    party: number,
    word: (party: number, column: number, c: number) => bigint,
    columns: number,
  ): boolean {
    const rows = this.expand(this.ring.lagrange(base, party));
    const d = this.ring.degree;
    for (let column = 0; column < columns; column++) {
      const words = base.flatMap((p) => Array.from({ length: d }, (_, c) => word(p, column, c)));
      if (rows.some((row, c) => (dot(row, words) & WORD_MASK) !== word(party, column, c))) return true;
    }
    return false;
  }
}

function dot(row: readonly bigint[], words: readonly bigint[]): bigint {
  let sum = 0n;
  for (let i = 0; i < row.length; i++) sum += row[i]! * words[i]!;
  return sum;
}
