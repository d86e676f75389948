/**
 * The residue field GF(2^d), d = 4 or 5, and Berlekamp–Welch decoding over it. Only public points and error positions get
 * here, never secrets.
 *
 * Source: Welch and Berlekamp, US patent 4,633,470 (1986); the linear system as in Gemmell and Sudan (1992), §2.
 */

/** Arithmetic of GF(2)[X]/F(X): F = X^4 + X + 1 or X^5 + X^2 + 1; an element is its coefficients as bits. */
export class Field {
  private readonly modulus: number;
  constructor(readonly degree: 4 | 5) {
    this.modulus = degree === 4 ? 0b10011 : 0b100101;
  }

  multiply(a: number, b: number): number {
    let product = 0;
    for (let bit = this.degree - 1; bit >= 0; bit--) {
      product <<= 1;
      if ((product >> this.degree) & 1) product ^= this.modulus;
      if ((b >> bit) & 1) product ^= a;
    }
    return product;
  }

  /** The inverse; 0 for 0. */
  inverse(a: number): number {
    // a^(2^d − 2)
    let product = 1;
    let square = a;
    for (let i = 1; i < this.degree; i++) {
      square = this.multiply(square, square);
      product = this.multiply(product, square);
    }
    return product;
  }

  private evaluate(f: readonly number[], x: number): number {
    return f.reduceRight((sum, c) => this.multiply(sum, x) ^ c, 0);
  }

  /**
   * Positions where `word` differs from the only polynomial of degree ≤ t that differs from it in at most `radius`
   * positions; `undefined` if there is none. Needs word.length ≥ t + 1 + 2·radius and distinct points.
   */
  errorPositions(points: readonly number[], word: readonly number[], t: number, radius: number): number[] | undefined {
    // N(x) = y·E(x), E monic of degree `radius`, N of degree ≤ t + radius. Unknowns: E_0 …, then N_0 …
    const n = t + radius + 1;
    const rows = points.map((x, i) => {
      const y = word[i]!;
      const powers = [1];
      while (powers.length < Math.max(n, radius + 1)) powers.push(this.multiply(powers[powers.length - 1]!, x));
      const row = powers.slice(0, radius).map((p) => this.multiply(y, p));
      return [...row, ...powers.slice(0, n), this.multiply(y, powers[radius]!)];
    });
    const solution = this.solve(rows, radius + n);
    if (!solution) return undefined;
    const f = this.divideExactly(solution.slice(radius), [...solution.slice(0, radius), 1]);
    if (!f || f.slice(t + 1).some((c) => c !== 0)) return undefined;
    const wrong: number[] = [];
    points.forEach((x, i) => {
      if (this.evaluate(f, x) !== word[i]) wrong.push(i);
    });
    return wrong.length <= radius ? wrong : undefined;
  }

  /** Some solution of the linear system whose rows end with the right-hand side. */
  private solve(rows: number[][], unknowns: number): number[] | undefined {
    const pivots: number[] = [];
    for (let column = 0; column < unknowns; column++) {
      const rank = pivots.length;
      const found = rows.findIndex((row, r) => r >= rank && row[column] !== 0);
      if (found < 0) continue;
      [rows[rank], rows[found]] = [rows[found]!, rows[rank]!];
      const inverse = this.inverse(rows[rank]![column]!);
      const pivot = rows[rank]!.map((c) => this.multiply(c, inverse));
      rows[rank] = pivot;
      rows.forEach((row, r) => {
        const factor = row[column]!;
        if (r === rank || factor === 0) return;
        for (let i = 0; i < row.length; i++) row[i]! ^= this.multiply(factor, pivot[i]!);
      });
      pivots.push(column);
    }
    if (rows.slice(pivots.length).some((row) => row[unknowns] !== 0)) return undefined;
    const solution = new Array<number>(unknowns).fill(0);
    pivots.forEach((column, r) => {
      solution[column] = rows[r]![unknowns]!;
    });
    return solution;
  }

  /** Quotient of a division by a monic polynomial; `undefined` if there is a remainder. */
  private divideExactly(a: number[], monic: readonly number[]): number[] | undefined {
    const degree = monic.length - 1;
    if (a.length <= degree) return a.every((c) => c === 0) ? [] : undefined;
    for (let top = a.length - 1; top >= degree; top--) {
      const factor = a[top]!;
      for (let j = 0; j < degree; j++) a[top - degree + j]! ^= this.multiply(factor, monic[j]!);
    }
    return a.slice(0, degree).every((c) => c === 0) ? a.slice(degree) : undefined;
  }
}
