// Prisma with its adapter for node-postgres: one connection for each client, so that the setting is its own.
import { PrismaPg } from "@prisma/adapter-pg";
import generated from "./generated/index.js";
import { story } from "./story.mjs";

const { PrismaClient } = generated;
await story(4, async () => {
  const client = new PrismaClient({ adapter: new PrismaPg({ connectionString: process.argv[2], max: 1 }) });
  return {
    set: (tenant) => client.$queryRaw`SELECT set_config('app.tenant', ${tenant}, false)`,
    ask: async (n) => {
      const found = await client.driver_item.findUniqueOrThrow({ where: { id: n } });
      const [{ tenant }] = await client.$queryRaw`SELECT current_setting('app.tenant') AS tenant`;
      return [found.id + 1, tenant];
    },
    done: () => client.$disconnect(),
  };
});
