// Writes ../javascript.json: events as the CloudEvents SDK for JavaScript puts them on Kafka.
//
//     npm ci && node record.mjs
//
// A header that the SDK leaves undefined is null here. Values are made into bytes as kafkajs does
// it: `String(value)`. The SDK leaves it to the producer to serialise the data of binary mode.
import { writeFileSync, readFileSync } from "node:fs";
import { CloudEvent, Kafka } from "cloudevents";

const version = JSON.parse(readFileSync("node_modules/cloudevents/package.json")).version;
const base = { source: "/sdk/javascript", type: "sdk.made", time: "2026-11-24T09:00:00Z" };
const events = {
  json: {
    ...base,
    id: "js-json",
    subject: "7",
    datacontenttype: "application/json",
    tenant: "süd",
    retries: 3,
    urgent: true,
    data: { n: 1 },
  },
  "json-charset": { ...base, id: "js-charset", datacontenttype: "application/json; charset=utf-8", data: { n: 1 } },
  untyped: { ...base, id: "js-untyped", data: { n: 1 } },
  text: { ...base, id: "js-text", datacontenttype: "text/plain", data: "süß" },
  bytes: { ...base, id: "js-bytes", datacontenttype: "application/octet-stream", data: new Uint8Array([8, 200, 1]) },
  "bytes-utf8": { ...base, id: "js-utf8", datacontenttype: "application/octet-stream", data: new Uint8Array([8, 1]) },
  empty: { ...base, id: "js-empty" },
};

const bytes = (value) => {
  if (value === undefined || value === null) return null;
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  return Buffer.from(typeof value === "object" ? JSON.stringify(value) : String(value)).toString("base64");
};
const record = (name, mode, message) => ({
  name,
  mode,
  headers: Object.entries(message.headers).map(([key, value]) => [key, bytes(value)]),
  value: bytes(message.value),
});

const records = Object.entries(events).flatMap(([name, attributes]) => {
  const event = new CloudEvent(attributes);
  return [record(name, "binary", Kafka.binary(event)), record(name, "structured", Kafka.structured(event))];
});
writeFileSync("../javascript.json", JSON.stringify({ made_by: `npm cloudevents ${version}`, records }, null, 1) + "\n");
