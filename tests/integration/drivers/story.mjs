// What each driver has to get right: clients with a setting of their own, and one query that all of them prepare.
export async function story(clients, connect) {
  const made = await Promise.all(Array.from({ length: clients }, connect));
  await Promise.all(made.map((client, i) => client.set(`tenant ${i}`)));
  for (let round = 0; round < 25; round++) {
    const answers = await Promise.all(made.map((client, i) => client.ask(100 * i + round)));
    answers.forEach(([n, tenant], i) => {
      if (n !== 100 * i + round + 1 || tenant !== `tenant ${i}`) throw new Error(`client ${i} got ${n}, ${tenant}`);
    });
  }
  await Promise.all(made.map((client) => client.done()));
  console.log("ok");
}
