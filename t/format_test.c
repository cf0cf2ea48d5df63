/*
 * For t/012_format.pl: src/format.c alone, without a server.
 *
 *	format_test [SECONDS [SEED]]
 *
 * First what is sound and what is not, by hand.  Then garbage for so long: made
 * from what is sound, and from nothing.  Whatever is found to be sound is read
 * as its readers do, with core's own macros, so that AddressSanitizer sees it
 * if that goes beyond it.  Each piece is in memory of its own of just that size.
 * With clang's -fsanitize=fuzzer and -DLIBFUZZER, libFuzzer makes the garbage.
 */
#include "postgres.h"

#include <limits.h>
#include <time.h>

#include "access/htup_details.h"
#include "access/tupmacs.h"

#include "format.h"

#undef printf					/* not the server's own */

#ifdef USE_ASSERT_CHECKING
/* What the server's headers call. */
void
ExceptionalCondition(const char *condition,
#if PG_VERSION_NUM < 160000
					 const char *type,
#endif
					 const char *file, int line)
{
	abort();
}
#endif

/* Columns of all kinds. */
static const SupShape shapes[] = {
	{4, 4}, {-1, 4}, {8, 8}, {-2, 1}, {1, 1}, {-1, 8}, {2, 2}, {64, 1}, {16, 8}, {-1, 4}
};

static volatile unsigned char sink;

static void
touch(const char *data, Size len)
{
	for (Size i = 0; i < len; i++)
		sink += data[i];
}

static char
align_code(const SupShape *shape)
{
	return shape->align == 8 ? TYPALIGN_DOUBLE : shape->align == 4 ? TYPALIGN_INT :
		shape->align == 2 ? TYPALIGN_SHORT : TYPALIGN_CHAR;
}

/* Read a row as slot_deform_heap_tuple() does. */
static void
read_row(const char *data, int natts)
{
	const MinimalTupleData *tuple = (const MinimalTupleData *) data;
	bool		has_nulls = (tuple->t_infomask & HEAP_HASNULL) != 0;
	char	   *values = (char *) data + tuple->t_hoff - MINIMAL_TUPLE_OFFSET;
	uint32		off = 0;

	for (int i = 0; i < natts; i++)
	{
		char		align = align_code(&shapes[i]);
		uint32		end;

		if (has_nulls && att_isnull(i, tuple->t_bits))
			continue;
		if (shapes[i].len == -1)
			off = att_align_pointer(off, align, -1, values + off);
		else
			off = att_align_nominal(off, align);
		end = att_addlength_pointer(off, shapes[i].len, values + off);
		touch(values + off, end - off);
		off = end;
	}
}

static void
read_input(const char *data)
{
	const SupInput *input = (const SupInput *) data;
	const char *p = (const char *) (input + 1);

	touch(p, strlen(p));
	touch(sup_input_columns(input), Max(input->ncolumns, 0) * SUP_COLUMN_SIZE);
	p = sup_input_params(input);
	for (int i = 0; i < input->nparams; i++)
	{
		int32		len;

		memcpy(&len, p, sizeof(len));
		p += sizeof(len);
		if (len >= 0)
		{
			touch(p, strlen(p));
			p += len + 1;
		}
	}
	if (p != sup_input_settings(input))
		abort();
	for (int i = 0; i < input->nsettings; i++)
	{
		for (int j = 0; j < 2; j++)
		{
			touch(p, strlen(p));
			p += strlen(p) + 1;
		}
		touch(p, sizeof(Oid));
		p += sizeof(Oid);
	}
}

/* Read a chunk, and what is in it, as read.c does. */
static void
read_chunk(char *data, Size len)
{
	SupMessage	message;
	Size		at = 0;

	while (at < len && sup_next_message(data, len, &at, &message))
	{
		if (message.len > len - at)
		{
			touch(data + at, len - at);
			return;
		}
		touch(data + at, message.len);
		if (message.type == SUP_MSG_ROW)
		{
			for (int natts = 0; natts <= lengthof(shapes); natts++)
				if (sup_row_is_sound(data + at, message.len, natts, shapes))
					read_row(data + at, natts);
		}
		else if (message.type == SUP_MSG_COLUMNS && sup_columns_are_sound(message.len))
			for (int i = 0; i < message.len / SUP_COLUMN_SIZE; i++)
			{
				Oid			type;
				int32		typmod;

				sup_get_column(data + at, i, &type, &typmod);
				sink += type + typmod;
			}
		else
		{
			Size		pos = 0;
			const char *value;

			while (sup_next_field(data + at, message.len, &pos, &value) > 0)
				touch(value, strlen(value));
		}
		at += MAXALIGN(message.len);
	}
}

/* Feed it to everything, from memory that ends where it ends. */
static void
feed(const char *bytes, Size len)
{
	char	   *data = malloc(Max(len, 1));

	memcpy(data, bytes, len);
	if (sup_input_is_sound(data, len))
		read_input(data);
	for (int natts = 0; natts <= lengthof(shapes); natts++)
		if (sup_row_is_sound(data, len, natts, shapes))
			read_row(data, natts);
	read_chunk(data, len);
	free(data);
}

#ifdef LIBFUZZER

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	feed((const char *) data, size);
	return 0;
}

#else

static int	tests = 0;
static int	failures = 0;

static void
is(bool got, bool expected, const char *name)
{
	tests++;
	if (got != expected)
		failures++;
	printf("%sok %d - %s\n", got == expected ? "" : "not ", tests, name);
}

/*
 * What is sound
 */

typedef struct Bytes
{
	Size		len;
	union
	{
		char		data[1024];
		double		align;
	};
} Bytes;

static void
add(Bytes *b, const void *data, Size len)
{
	if (b->len + len > sizeof(b->data))
		abort();
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void
add_int(Bytes *b, int32 value)
{
	add(b, &value, sizeof(value));
}

static void
make_input(Bytes *b)
{
	b->len = 0;
	add_int(b, 8);
	add_int(b, 2);
	add_int(b, 3);
	add_int(b, 1);
	add(b, "SELECT 1", 9);
	for (int i = 0; i < 4; i++)
		add_int(b, i);
	add_int(b, 2);
	add(b, "ab", 3);
	add_int(b, -1);
	add_int(b, 0);
	add(b, "", 1);
	add(b, "work_mem", 9);
	add(b, "4MB", 4);
	add_int(b, 10);
}

/* A row of all columns, as heap_fill_tuple() would make it. */
static void
make_row(Bytes *b, bool with_null)
{
	MinimalTuple tuple = (MinimalTuple) b->data;
	int			natts = lengthof(shapes);
	Size		hoff = MAXALIGN(SizeofMinimalTupleHeader + (with_null ? BITMAPLEN(natts) : 0));
	char	   *at;

	memset(b->data, 0, sizeof(b->data));
	tuple->t_infomask2 = natts;
	tuple->t_infomask = with_null ? HEAP_HASNULL : 0;
	tuple->t_hoff = hoff + MINIMAL_TUPLE_OFFSET;
	if (with_null)
		memset(tuple->t_bits, 0xff, BITMAPLEN(natts));
	if (with_null)
		tuple->t_bits[0] &= ~(1 << 2);	/* the third */
	at = b->data + hoff;
	for (int i = 0; i < natts; i++)
	{
		if (with_null && i == 2)
			continue;
		if (i != 1)
			at = (char *) TYPEALIGN(shapes[i].align, at);
		if (i == 1)
		{
			SET_VARSIZE_SHORT(at, 4);	/* without padding */
			at += 4;
		}
		else if (shapes[i].len == -1)
		{
			SET_VARSIZE(at, 200);
			at += 200;
		}
		else if (shapes[i].len == -2)
		{
			strcpy(at, "cstring");
			at += 8;
		}
		else
			at += shapes[i].len;
	}
	tuple->t_len = b->len = at - b->data;
}

static void
make_chunk(Bytes *b)
{
	SupMessage	message = {0};
	Bytes		row;
	char		notice[] = "\6\0\0\0SWARNING\0VWARNING\0C01000\0Mhello\0";

	memset(b, 0, sizeof(*b));
	message.type = SUP_MSG_COLUMNS;
	message.len = 2 * SUP_COLUMN_SIZE;
	add(b, &message, sizeof(message));
	for (int i = 0; i < 4; i++)
		add_int(b, 23);
	message.type = SUP_MSG_ROW;
	make_row(&row, true);
	message.len = row.len;
	add(b, &message, sizeof(message));
	add(b, row.data, MAXALIGN(row.len));
	message.type = SUP_MSG_NOTICE;
	message.len = sizeof(notice);
	add(b, &message, sizeof(message));
	add(b, notice, sizeof(notice));
}

/* Is the input still sound when these four bytes are another number? */
static bool
input_with(Size at, int32 value)
{
	Bytes		b;

	make_input(&b);
	memcpy(b.data + at, &value, sizeof(value));
	return sup_input_is_sound(b.data, b.len);
}

static void
test_input(void)
{
	Bytes		b;
	bool		any = false;

	make_input(&b);
	is(sup_input_is_sound(b.data, b.len), true, "an input");
	for (Size len = 0; len < b.len; len++)
		any |= sup_input_is_sound(b.data, len);
	is(any, false, "one that is cut anywhere");
	b.len++;
	is(sup_input_is_sound(b.data, b.len), false, "one with something behind it");
	for (int field = 0; field < 4; field++)
		for (int i = 0; i < 6; i++)
		{
			static const int32 values[] = {-2, INT_MIN, INT_MAX, 7, 100, INT_MAX / 8};

			any |= input_with(field * sizeof(int32), values[i]);
		}
	is(any, false, "a length or a number that is wrong");
	is(input_with(sizeof(SupInput) + 9 + 16, INT_MAX) || input_with(sizeof(SupInput) + 9 + 16, -2) ||
	   input_with(sizeof(SupInput) + 9 + 16, 1) || input_with(sizeof(SupInput) + 9 + 16, 3),
	   false, "a parameter of another length");
	is(input_with(sizeof(SupInput), 'S'), false, "a command that is shorter than it says");
}

static void
test_rows(void)
{
	Bytes		b;
	MinimalTuple tuple = (MinimalTuple) b.data;
	int			natts = lengthof(shapes);
	bool		any = false;
	Size		len;

	for (int with_null = 0; with_null < 2; with_null++)
	{
		make_row(&b, with_null);
		is(sup_row_is_sound(b.data, b.len, natts, shapes), true,
		   with_null ? "a row with a null" : "a row");
		is(sup_row_is_sound(b.data, b.len, natts - 1, shapes) ||
		   sup_row_is_sound(b.data, b.len, 0, shapes), false, "of other columns");
		len = b.len;
		for (any = false; len-- > 0;)
		{
			any |= sup_row_is_sound(b.data, len, natts, shapes);
			tuple->t_len = len;
			any |= sup_row_is_sound(b.data, len, natts, shapes);
		}
		is(any, false, "that is cut anywhere");
	}

	make_row(&b, false);
	tuple->t_len++;
	is(sup_row_is_sound(b.data, b.len, natts, shapes), false, "a length that is not the message's");
	make_row(&b, false);
	tuple->t_infomask |= HEAP_HASEXTERNAL;
	is(sup_row_is_sound(b.data, b.len, natts, shapes), false, "one that says that it points out of itself");
	make_row(&b, false);
	for (int hoff = 0; hoff < 256; hoff++)
	{
		char		before = tuple->t_hoff;

		if (hoff < SizeofMinimalTupleHeader + MINIMAL_TUPLE_OFFSET || hoff % MAXIMUM_ALIGNOF != 0)
		{
			tuple->t_hoff = hoff;
			any |= sup_row_is_sound(b.data, b.len, natts, shapes);
			tuple->t_hoff = before;
		}
	}
	is(any, false, "data that begin in the header, or are not aligned");
	make_row(&b, false);
	b.data[tuple->t_hoff - MINIMAL_TUPLE_OFFSET + 4] = 0x01;	/* the second column */
	is(sup_row_is_sound(b.data, b.len, natts, shapes), false, "a value that lies elsewhere");
	make_row(&b, false);
	b.data[tuple->t_hoff - MINIMAL_TUPLE_OFFSET + 4] = (char) 0xff;
	is(sup_row_is_sound(b.data, tuple->t_len = 100, natts, shapes), false, "a value that is too long");
	memset(&b, 0, sizeof(b));
	tuple->t_len = MAXALIGN(SizeofMinimalTupleHeader);
	tuple->t_hoff = tuple->t_len + MINIMAL_TUPLE_OFFSET;
	is(sup_row_is_sound(b.data, tuple->t_len, 0, shapes), true, "a row of no columns");
}

static void
test_messages(void)
{
	Bytes		b;
	SupMessage	message;
	Size		at = 0;
	const char *value;
	const char	fields[] = "Mhello\0X\0";

	make_chunk(&b);
	is(sup_next_message(b.data, b.len, &at, &message) && message.type == SUP_MSG_COLUMNS && at == sizeof(message),
	   true, "a message");
	at = 0;
	is(sup_next_message(b.data, sizeof(message) - 1, &at, &message), false, "one without room for its header");
	at = 4;
	is(sup_next_message(b.data, b.len, &at, &message), false, "one that is not aligned");
	at = MAXALIGN(b.len) + 8;
	is(sup_next_message(b.data, b.len, &at, &message), false, "one behind the end");
	at = 0;
	memset(b.data, 0xff, 4);
	is(sup_next_message(b.data, b.len, &at, &message), false, "one that is larger than any");
	is(sup_columns_are_sound(0) && sup_columns_are_sound(80), true, "columns");
	is(sup_columns_are_sound(7) || sup_columns_are_sound(8 * 1700), false, "columns that are cut, or too many");

	at = 0;
	is(sup_next_field(fields, sizeof(fields), &at, &value) == 'M' && strcmp(value, "hello") == 0 &&
	   sup_next_field(fields, sizeof(fields), &at, &value) == 'X' && value[0] == '\0' &&
	   sup_next_field(fields, sizeof(fields), &at, &value) == 0, true, "the fields of a message");
	at = 0;
	is(sup_next_field(fields, 6, &at, &value) == -1, true, "a field without an end");
	at = 0;
	is(sup_next_field(fields, 0, &at, &value) == -1, true, "a message without one");
	at = 7;
	is(sup_next_field("Mhello\0\0x", 9, &at, &value) == -1, true, "something behind the end of the fields");
}

/*
 * Garbage
 */

static uint64 state;

static uint32
any(uint32 limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32) (state >> 16) % limit;
}

static void
fuzz(int seconds)
{
	time_t		end = time(NULL) + seconds;
	long		n = 0;

	while (time(NULL) < end)
		for (int i = 0; i < 10000; i++, n++)
		{
			Bytes		b;
			int			changes = any(6);

			switch (any(5))
			{
				case 0:
					make_input(&b);
					break;
				case 1:
				case 2:
					make_row(&b, any(2));
					break;
				case 3:
					make_chunk(&b);
					break;
				default:
					b.len = any(300);
					for (Size j = 0; j < b.len; j++)
						b.data[j] = any(4) == 0 ? any(256) : any(4);
			}
			while (changes-- > 0 && b.len > 0)
				b.data[any(any(2) ? b.len : Min(b.len, 64))] = any(3) == 0 ? 0 : any(256);
			if (any(8) == 0)
				b.len = any(b.len + 1);
			/* so that what is cut is not refused for its length alone */
			if (any(2) == 0 && b.len >= 4)
			{
				uint32		len = b.len;

				memcpy(b.data, &len, sizeof(len));
			}
			feed(b.data, b.len);
		}
	printf("# %ld pieces of garbage\n", n);
}

int
main(int argc, char **argv)
{
	uint64		seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64) time(NULL);

	setvbuf(stdout, NULL, _IOLBF, 0);
	test_input();
	test_rows();
	test_messages();
	printf("# seed %llu\n", (unsigned long long) seed);
	state = seed * UINT64CONST(0x9E3779B97F4A7C15) + 1;
	if (state == 0)
		state = 1;
	fuzz(argc > 1 ? atoi(argv[1]) : 3);
	is(false, false, "garbage is never read beyond its end");
	printf("1..%d\n", tests);
	return failures > 0;
}

#endif
