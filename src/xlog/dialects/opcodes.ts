// Every operation that a major can write into its log: opcodes by resource manager id. The registry is checked
// against these lists at load, so that an operation without a row, or a row without an operation, is an error
// before the first record is read.
//
// Out of the headers of each major (access/rmgrlist.h, *_xlog.h, *xlog.h, pg_control.h). Mind 14's late minors:
// they write OVERWRITE_CONTRECORD (0xd0), which 14.0 did not know.

type Opcodes = Readonly<Record<number, readonly number[]>>;

/** 0x00, 0x10, ... up to `last`. */
const upTo = (last: number): number[] => Array.from({ length: (last >> 4) + 1 }, (_, i) => i << 4);

const OPCODES_14: Opcodes = {
  0: [...upTo(0xb0), 0xd0], // XLOG
  1: upTo(0x60), // Transaction
  2: [0x10, 0x20], // Storage
  3: upTo(0x10), // CLOG
  4: upTo(0x10), // Database: CREATE, DROP
  5: upTo(0x10), // Tablespace
  6: upTo(0x30), // MultiXact
  7: upTo(0x00), // RelMap
  8: upTo(0x20), // Standby
  9: upTo(0x70), // Heap2
  10: upTo(0x70), // Heap
  11: upTo(0xe0), // Btree
  12: upTo(0xc0), // Hash
  13: [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90], // Gin
  14: [0x00, 0x10, 0x20, 0x30, 0x60, 0x70], // Gist
  15: upTo(0x00), // Sequence
  16: [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80], // SPGist
  17: upTo(0x50), // BRIN
  18: upTo(0x10), // CommitTs
  19: upTo(0x10), // ReplicationOrigin
  20: upTo(0x00), // Generic
  21: upTo(0x00), // LogicalMessage
};

/** CREATE by file copy, CREATE by WAL log, DROP. */
const OPCODES_15: Opcodes = { ...OPCODES_14, 4: upTo(0x20) };
const OPCODES_16: Opcodes = OPCODES_15;
/** CHECKPOINT_REDO. Heap2's 0x10 to 0x30 keep their values and change their meaning. */
const OPCODES_17: Opcodes = { ...OPCODES_16, 0: [...upTo(0xb0), 0xd0, 0xe0] };
const OPCODES_18: Opcodes = OPCODES_17;

export const OPCODES = { 14: OPCODES_14, 15: OPCODES_15, 16: OPCODES_16, 17: OPCODES_17, 18: OPCODES_18 };

const NEON_134 = { 134: upTo(0x50) };

export const NEON_OPCODES = {
  14: OPCODES_14,
  15: OPCODES_15,
  16: { ...OPCODES_16, ...NEON_134 },
  17: { ...OPCODES_17, ...NEON_134 },
  18: { ...OPCODES_18, ...NEON_134 },
};
