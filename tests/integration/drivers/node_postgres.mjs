// node-postgres: a pool, queries with names, which it prepares; each client has a setting of its own.
import pg from "pg";
import { story } from "./story.mjs";

const pool = new pg.Pool({ connectionString: process.argv[2], max: 4 });
await story(4, async () => {
  const client = await pool.connect();
  return {
    set: (tenant) => client.query("SELECT set_config('app.tenant', $1, false)", [tenant]),
    ask: async (n) => {
      const { rows } = await client.query({ name: "ask", text: "SELECT $1::int + 1 AS n, current_setting('app.tenant') AS tenant", values: [n] });
      return [rows[0].n, rows[0].tenant];
    },
    done: () => client.release(),
  };
});
await pool.end();
