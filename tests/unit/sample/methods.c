// SPDX-License-Identifier: Apache-2.0
/*
 * For test_runtime.c: static functions behind tables like PyMethodDef, as extension modules have them. Linked as a
 * shared object (plain and packed relocations) and as executable that is not relocated. The exported pointers say what
 * to find.
 */
struct method {
	const char *name;
	void (*fn)(void);
	int flags;
	const char *doc;
};

#define FUNCTION(name, n)                                                                                              \
	__attribute__((noinline)) static void name(void)                                                               \
	{                                                                                                              \
		__asm__ volatile("push %%rax; pop %%rax; mov %0, %%eax" : : "i"(n) : "eax");                           \
	}

FUNCTION(future_result, 1)
FUNCTION(task_result, 2)
FUNCTION(put, 3)
FUNCTION(put_again, 4)

static struct method future[] = {
	{"result", task_result, 4, "Return the result."},
	{"set_result", future_result, 8,
	 "set_result($self, result, /)\n--\n\nMark the future done and set its result."},
	{0, 0, 0, 0},
};

static struct method task[] = {
	{"set_result", task_result, 8, "set_result($self, result, /)\n--\n\n"},
	{"put", put_again, 8, 0},
	{0, 0, 0, 0},
};

/* The same twice is no contradiction, another one of that name and documentation is. */
static struct method queues[] = {
	{"put", put, 0x82, "Put the item on the queue."},
	{"put", put, 0x82, "Put the item on the queue."},
	{"twice", put, 0x82, "Said of two."},
	{"twice", put_again, 0x82, "Said of two."},
	{0, 0, 0, 0},
};

struct method *sample_tables[] = {future, task, queues};
void (*sample_functions[])(void) = {future_result, task_result, put, put_again};
const unsigned long Sample_Version = 0x030b02f0;

void sample_exported(void)
{
	put();
}

int main(void)
{
	sample_exported();
	return sample_tables[0] == 0;
}
