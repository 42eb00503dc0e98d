// gRPC as data and as a door: methods that a service offers, calls that a client makes. Messages are bytes here;
// their codecs live with the protocol. Every method is a stream in and a stream out; a unary one has one message
// each way.
//
//   message   compressed u8 | length u32 | bytes          in the DATA of an HTTP/2 stream
//   end       trailers grpc-status, grpc-message

export const GRPC_STATUS = {
  ok: 0,
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

/** How a call ended, other than well. */
export class GrpcError extends Error {
  override readonly name = 'GrpcError';
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export type GrpcMetadata = Readonly<Record<string, string | undefined>>;

/** A call, as the server's handler sees it. */
export interface GrpcServerCall {
  readonly metadata: GrpcMetadata;
  readonly peer: string;
  /** Aborted when the client cancels or goes away. */
  readonly signal: AbortSignal;
  /** Messages of the client, until it ends its side. */
  readonly messages: AsyncIterable<Uint8Array>;
  /** Sends the head of the answer now, before there is a message: a subscriber waits for it. */
  open(): void;
  /** Resolves when more may be sent. */
  send(message: Uint8Array): Promise<void>;
  /** Several messages framed already, back to back (`grpcFrame`). */
  sendFramed(frames: Uint8Array): Promise<void>;
}

/** The call ends well when the handler resolves; a GrpcError or Fault thrown is its status. */
export type GrpcHandler = (call: GrpcServerCall) => Promise<void>;

/** By full path: `/package.Service/Method`. */
export type GrpcMethods = ReadonlyMap<string, GrpcHandler>;

/** A call, as the client sees it. */
export interface GrpcClientCall {
  send(message: Uint8Array): Promise<void>;
  /** We send no more. */
  end(): void;
  /** Messages of the server; ends when the call ended well, throws a GrpcError when not. */
  readonly messages: AsyncIterable<Uint8Array>;
  cancel(): void;
}

/** A connection to one server, made when it is needed and again after it broke. */
export interface GrpcChannel {
  call(path: string, options?: { metadata?: Record<string, string>; signal?: AbortSignal }): GrpcClientCall;
  close(): void;
}

export const GRPC_HEADER_BYTES = 5;

/** A message as it travels, uncompressed. */
export function grpcFrame(message: Uint8Array): Uint8Array {
  const framed = Buffer.allocUnsafe(GRPC_HEADER_BYTES + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, GRPC_HEADER_BYTES);
  return framed;
}

/** Undoes a compression named in `grpc-encoding`. */
export type Decompress = (encoding: string, bytes: Uint8Array, bytesMax: number) => Uint8Array;

/** A message longer than this is refused. */
export const GRPC_MESSAGE_BYTES_MAX = 16 * 1024 * 1024;

/** Messages out of the chunks of one direction of a stream. */
export async function* grpcMessages(
  chunks: AsyncIterable<Uint8Array>,
  encoding: string,
  decompress: Decompress,
): AsyncGenerator<Uint8Array> {
  let held: Uint8Array = new Uint8Array(0);
  let wanted = GRPC_HEADER_BYTES;
  for await (const chunk of chunks) {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    let at = 0;
    while (held.length - at >= wanted) {
      const length = Buffer.from(held.buffer, held.byteOffset + at, 5).readUInt32BE(1);
      if (length > GRPC_MESSAGE_BYTES_MAX) {
        throw new GrpcError(GRPC_STATUS.resourceExhausted, `a message of ${length} bytes is too long`);
      }
      wanted = GRPC_HEADER_BYTES + length;
      if (held.length - at < wanted) break;
      const body = held.subarray(at + GRPC_HEADER_BYTES, at + wanted);
      yield held[at] === 0 ? body : decompress(encoding, body, GRPC_MESSAGE_BYTES_MAX);
      at += wanted;
      wanted = GRPC_HEADER_BYTES;
    }
    held = held.subarray(at);
  }
  if (held.length > 0) throw new GrpcError(GRPC_STATUS.internal, 'the stream ends inside a message');
}

/** The one message of a unary call. */
export async function unary(call: GrpcClientCall, message: Uint8Array): Promise<Uint8Array> {
  await call.send(message);
  call.end();
  let answer: Uint8Array | undefined;
  for await (const m of call.messages) answer = m;
  if (!answer) throw new GrpcError(GRPC_STATUS.internal, 'the server gave no answer');
  return answer;
}

/** The one message a unary handler was sent. */
export async function only(call: GrpcServerCall): Promise<Uint8Array> {
  for await (const message of call.messages) return message;
  throw new GrpcError(GRPC_STATUS.invalidArgument, 'a message is missing');
}
