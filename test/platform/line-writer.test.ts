/** Lines for standard error: what becomes of them when nobody takes them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createLineWriter } from "../../src/platform/line-writer.ts";

/** A file that takes `room` bytes in all, and then fails with `code`. */
function outlet(room: number, code: string) {
  const state = { text: "", room, code, calls: 0 };
  const write = createLineWriter(
    9,
    (lines) => `<${lines} lost>\n`,
    (fd, bytes, offset) => {
      assert.equal(fd, 9);
      state.calls++;
      const taken = Math.min(state.room, bytes.length - offset);
      if (taken === 0) throw Object.assign(new Error(state.code), { code: state.code });
      state.text += Buffer.from(bytes.subarray(offset, offset + taken)).toString();
      state.room -= taken;
      return taken;
    },
  );
  return { state, write };
}

describe("line writer", () => {
  test("a full disk: lines are lost and counted, and the next one does not continue a torn one", () => {
    const { state, write } = outlet(8, "ENOSPC");
    write("first\n");
    write("second\n");
    write("third\n");
    assert.equal(state.text, "first\nse");
    state.room = 1000;
    write("fourth\n");
    write("fifth\n");
    assert.equal(state.text, "first\nse\n<2 lost>\nfourth\nfifth\n");
  });

  for (const code of ["EPIPE", "EIO", "EBADF"])
    test(`${code}: one try a line, no waiting, no error`, () => {
      const { state, write } = outlet(0, code);
      const begun = performance.now();
      for (let i = 0; i < 1000; i++) write("line\n");
      assert.equal(state.calls, 1000);
      assert.ok(performance.now() - begun < 10_000);
    });

  test("a reader that stands still is waited for once, not with each line; when it goes on, it learns what is missing", () => {
    const { state, write } = outlet(3, "EAGAIN");
    write("one\n");
    const waited = state.calls;
    assert.ok(waited > 3, `${waited} tries`);
    for (let i = 0; i < 500; i++) write("more\n");
    assert.equal(state.calls, waited + 500, "one try for each of the others");
    state.room = 1000;
    write("again\n");
    assert.equal(state.text, "one\n<501 lost>\nagain\n");
    // From here on it is given time again.
    state.room = 0;
    write("x\n");
    assert.ok(state.calls > waited + 510);
  });

  test("a reader that is slow gets whole lines", () => {
    const { state, write } = outlet(2, "EAGAIN");
    const timer = new Proxy(state, {});
    let asked = 0;
    Object.defineProperty(state, "code", {
      get() {
        if (++asked % 3 === 0) timer.room = 2;
        return "EAGAIN";
      },
    });
    write("abcdefgh\n");
    assert.equal(state.text, "abcdefgh\n");
  });
});
