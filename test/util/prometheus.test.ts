import assert from "node:assert/strict";
import { test } from "node:test";
import { prometheusText } from "../../src/util/prometheus.ts";

test("prometheus: families, labels that hold anything, histograms; one without samples is left out", () => {
  const text = prometheusText([
    { name: "a_total", kind: "counter", help: 'A "help" of\ntwo lines \\.', samples: [{ value: 3 }] },
    {
      name: "b",
      kind: "gauge",
      help: "B.",
      samples: [
        { labels: { peer: 'http://"x"\\\n', region: "ü" }, value: 0.5 },
        { labels: {}, value: Number.POSITIVE_INFINITY },
        { value: Number.NEGATIVE_INFINITY },
        { value: Number.NaN },
        { value: 1e21 },
      ],
    },
    { name: "none", kind: "gauge", help: "None.", samples: [] },
    {
      name: "h",
      kind: "histogram",
      help: "H.",
      samples: [],
      histogram: { bounds: [0.00001, 1], counts: [1, 2, 4], sum: 7.5 },
    },
  ]);
  assert.equal(
    text,
    `# HELP a_total A "help" of\\ntwo lines \\\\.
# TYPE a_total counter
a_total 3
# HELP b B.
# TYPE b gauge
b{peer="http://\\"x\\"\\\\\\n",region="ü"} 0.5
b +Inf
b -Inf
b NaN
b 1e+21
# HELP h H.
# TYPE h histogram
h_bucket{le="0.00001"} 1
h_bucket{le="1"} 2
h_bucket{le="+Inf"} 4
h_sum 7.5
h_count 4
`,
  );
});
