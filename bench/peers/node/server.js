// Fastify and ioredis with auto-pipelining: the same script from another language.
//
// Commands of one turn of the event loop leave in one pipeline by themselves (`enableAutoPipelining`),
// which is the very idea the product's link stands on; so this peer compares runtimes, not designs.
// Keys and arguments are those of the script's header; the orphan rule is off, as for every peer.
import Fastify from "fastify";
import Redis from "ioredis";
import { crc32 } from "node:zlib";

const { PORT, REDIS_URL, SCRIPT_SHA, SEATS_PER_ROW, HOLD_TTL_MS } = process.env;
const PARTITIONS = 64;
const seatsPerRow = Number(SEATS_PER_ROW);
const redis = new Redis(REDIS_URL, { enableAutoPipelining: true, maxRetriesPerRequest: 0 });
const app = Fastify({ logger: false });
const nothing = Buffer.alloc(0);
const known = new Map();

function keysOf(showtime) {
  let keys = known.get(showtime);
  if (keys === undefined) {
    const tag = `rsv:{p${String(crc32(showtime) % PARTITIONS).padStart(2, "0")}}`;
    keys = [`${tag}:showtime:${showtime}`, `${tag}:taken:${showtime}`, `${tag}:expiry:${showtime}`];
    known.set(showtime, keys);
  }
  return keys;
}

function packed(labels) {
  const bytes = Buffer.alloc(labels.length * 2);
  labels.forEach((label, place) => {
    const [row, seat] = label.split("-");
    bytes.writeUInt16BE((Number(row) - 1) * seatsPerRow + Number(seat) - 1, place * 2);
  });
  return bytes;
}

app.post("/hold", async (request, reply) => {
  const { showtime_id, hold_id, buyer_id, seats } = request.body;
  const [showtime, taken, expiry] = keysOf(showtime_id);
  const [status, expires_at_ms] = await redis.evalsha(
    SCRIPT_SHA, 3, showtime, taken, expiry,
    hold_id, buyer_id, HOLD_TTL_MS, "", packed(seats), "off", nothing, nothing, "buyer", "",
  );
  if (status === "held" || status === "already_held") {
    return reply.code(201).send({ hold_id, seats, expires_at_ms });
  }
  return reply.code(409).send({ code: status });
});

await app.listen({ host: "127.0.0.1", port: Number(PORT) });
