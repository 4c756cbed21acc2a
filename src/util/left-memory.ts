/**
 * Large memory that its last user has left to the next one: to make it anew takes time, and brings the next
 * garbage collection closer.
 */
export class LeftMemory {
  private left: Uint8Array | null = null;

  /** Memory of `bytes` or more, with arbitrary contents. */
  take(bytes: number): Uint8Array {
    const { left } = this;
    this.left = null;
    return left !== null && left.length >= bytes ? left : new Uint8Array(bytes);
  }

  /** Whoever leaves memory must not use it any more. */
  leave(memory: Uint8Array): void {
    this.left = memory;
  }
}
