// Drizzle on node-postgres: a prepared statement for each client, transactions.
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { integer, pgTable } from "drizzle-orm/pg-core";
import pg from "pg";
import { story } from "./story.mjs";

const item = pgTable("driver_item", { id: integer("id") });
await story(4, async () => {
  const client = new pg.Client({ connectionString: process.argv[2] });
  await client.connect();
  const db = drizzle(client);
  const prepared = db
    .select({ n: sql`${item.id} + 1`, tenant: sql`current_setting('app.tenant')` })
    .from(item).where(sql`${item.id} = ${sql.placeholder("id")}`).prepare("ask");
  return {
    set: (tenant) => db.execute(sql`SELECT set_config('app.tenant', ${tenant}, false)`),
    ask: async (n) => {
      const [row] = await db.transaction(() => prepared.execute({ id: n }));
      return [row.n, row.tenant];
    },
    done: () => client.end(),
  };
});
