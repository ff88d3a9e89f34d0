// A client made from the protos alone. It streams a short dialogue and a document, and prints each response as one
// line of JSON.
//
//   node client.mjs --target HOST:PORT --protos DIR

import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const { values: options } = parseArgs({ options: { target: { type: "string" }, protos: { type: "string" } } });
if (!options.target || !options.protos) {
  console.error("usage: node client.mjs --target HOST:PORT --protos DIR");
  process.exit(2);
}

const definition = protoLoader.loadSync("kniv/v1/annotation_service.proto", {
  includeDirs: [options.protos],
  defaults: true,
  enums: String,
  longs: Number,
  oneofs: true,
});
const { kniv } = grpc.loadPackageDefinition(definition);
const client = new kniv.v1.AnnotationService(options.target, grpc.credentials.createInsecure());

const document = Buffer.from("The 🙂 was sent to Ada Lovelace. She smiled.\nThen she left.\n");
const cut = 6; // inside the emoji

const requests = [
  { configuration: { options: { offsetUnit: "OFFSET_UNIT_UTF16_CODE_UNIT" }, ordering: "ORDERING_IN_ORDER" } },
  { turn: { turnId: "t1", speaker: "ada", text: "Hello 🙂, can you book a table?" } },
  { turn: { turnId: "t2", speaker: "bob", text: "Sure. For how many people?" } },
  { turn: { turnId: "t3", speaker: "ada", text: "Four, please. 👩‍👩‍👧 Thanks!" } },
  { documentChunk: { documentId: "d1", content: document.subarray(0, cut), last: false } },
  { documentChunk: { documentId: "d1", content: document.subarray(cut), last: true } },
];

const deadline = Date.now() + 120_000;
const call = client.streamAnnotations({ deadline });
call.on("data", (response) => console.log(JSON.stringify(response)));
call.on("end", () => client.close());
call.on("error", (error) => {
  console.error(`${grpc.status[error.code]}: ${error.details}`);
  process.exitCode = 1;
  client.close();
});
for (const request of requests) call.write(request);
call.end();
