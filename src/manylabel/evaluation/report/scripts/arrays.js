// Numbers that the page carries as bytes.
const ARRAY_KINDS = {u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array};

function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.bytes), character => character.charCodeAt(0));
  return new ARRAY_KINDS[packed.kind](bytes.buffer);
}

function unpackAll(object) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, value && value.bytes !== undefined ? unpack(value) : value]));
}

const formatNumber = value => Number.isFinite(value) ? value.toLocaleString("en-US") : "n/a";
const formatValue = (value, digits = 3) => Number.isFinite(value) ? value.toFixed(digits) : "n/a";

function formatShare(value) {
  if (!Number.isFinite(value)) return "n/a";
  const digits = (value > 0 && value < 0.01) || (value > 0.99 && value < 1) ? 1 : 0;
  return (100 * value).toFixed(digits) + "%";
}
