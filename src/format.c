/*-------------------------------------------------------------------------
 *
 * format.c
 *	  Checks what a session and a worker send each other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "utils/memutils.h"

#include "format.h"

/* Whoever has to find more than that in one piece of memory is misled. */
#define MAX_MESSAGE		MaxAllocSize

/*
 * A command
 */

/* Go past a string and its zero; false: it has none. */
static bool
skip_string(const char *data, Size len, Size *at)
{
	const char *end = *at < len ? memchr(data + *at, '\0', len - *at) : NULL;

	if (end == NULL)
		return false;
	*at = end + 1 - data;
	return true;
}

/*
 * Goes through all parts, and must arrive at the very end.  What the texts
 * and types are does not matter here.
 */
bool
sup_input_is_sound(const char *data, Size len)
{
	SupInput	input;
	Size		at = sizeof(input);

	if (len < sizeof(input))
		return false;
	memcpy(&input, data, sizeof(input));
	if (input.command_len < 0 || input.ncolumns < -1 || input.nparams < -1 || input.nsettings < 0)
		return false;

	if (!skip_string(data, len, &at) || at != sizeof(input) + input.command_len + 1)
		return false;
	if (Max(input.ncolumns, 0) > (len - at) / SUP_COLUMN_SIZE)
		return false;
	at += Max(input.ncolumns, 0) * SUP_COLUMN_SIZE;
	for (int i = 0; i < input.nparams; i++)
	{
		int32		param_len;
		Size		begin;

		if (len - at < sizeof(param_len))
			return false;
		memcpy(&param_len, data + at, sizeof(param_len));
		begin = at += sizeof(param_len);
		if (param_len == -1)
			continue;
		if (param_len < 0 || !skip_string(data, len, &at) || at != begin + param_len + 1)
			return false;
	}
	for (int i = 0; i < input.nsettings; i++)
	{
		if (!skip_string(data, len, &at) || !skip_string(data, len, &at) ||
			len - at < sizeof(Oid))
			return false;
		at += sizeof(Oid);
	}
	return at == len;
}

/* Not inline, since all parameters have to be gone through. */
const char *
sup_input_settings(const SupInput *input)
{
	const char *p = sup_input_params(input);

	for (int i = 0; i < input->nparams; i++)
	{
		int32		len;

		memcpy(&len, p, sizeof(len));
		p += sizeof(len) + (len >= 0 ? len + 1 : 0);
	}
	return p;
}

/*
 * A result
 */

/* One larger than MAX_MESSAGE is none, either. */
bool
sup_next_message(const char *data, Size len, Size *at, SupMessage *message)
{
	if (*at != MAXALIGN(*at) || *at > len || len - *at < sizeof(SupMessage))
		return false;
	memcpy(message, data + *at, sizeof(SupMessage));
	*at += sizeof(SupMessage);
	return message->len <= MAX_MESSAGE;
}

/* Whole ones, and no more than a tuple can have. */
bool
sup_columns_are_sound(Size len)
{
	return len % SUP_COLUMN_SIZE == 0 && len / SUP_COLUMN_SIZE <= MaxTupleAttributeNumber;
}

/*
 * Where a value ends that begins at 'at', or may have some padding there; 0:
 * it does not.
 */
static inline Size
end_of_value(const char *data, Size len, Size at, const SupShape *shape)
{
	Size		size;

	/* A short varlena has no padding, and what pads is zero. */
	if (shape->len != -1 || (at < len && data[at] == 0))
		at = TYPEALIGN(shape->align, at);
	if (at > len)
		return 0;
	if (shape->len > 0)
		size = shape->len;
	else if (at == len)
		return 0;
	else if (shape->len == -2)
	{
		const char *end = memchr(data + at, '\0', len - at);

		if (end == NULL)
			return 0;
		size = end + 1 - (data + at);
	}
	else if (VARATT_IS_1B_E(data + at))
		return 0;				/* points out of the row */
	else if (VARATT_IS_1B(data + at))
		size = VARSIZE_1B(data + at);
	else
	{
		if (at != TYPEALIGN(shape->align, at) || len - at < VARHDRSZ)
			return 0;
		size = VARSIZE_4B(data + at);
		if (size < (VARATT_IS_4B_C(data + at) ? VARHDRSZ_COMPRESSED : VARHDRSZ))
			return 0;
	}
	return size <= len - at ? at + size : 0;
}

/* What is left behind the last value does not matter. */
bool
sup_row_is_sound(const char *data, Size len, int natts, const SupShape *shapes)
{
	const MinimalTupleData *tuple = (const MinimalTupleData *) data;
	bool		has_nulls;
	Size		at;

	if (len < SizeofMinimalTupleHeader || tuple->t_len != len ||
		HeapTupleHeaderGetNatts(tuple) != natts ||
		(tuple->t_infomask & HEAP_HASEXTERNAL) != 0)
		return false;
	has_nulls = (tuple->t_infomask & HEAP_HASNULL) != 0;
	at = tuple->t_hoff;
	if (at != MAXALIGN(at) ||
		at < MINIMAL_TUPLE_OFFSET + SizeofMinimalTupleHeader + (has_nulls ? BITMAPLEN(natts) : 0))
		return false;
	at -= MINIMAL_TUPLE_OFFSET;
	if (at > len)
		return false;

	for (int i = 0; i < natts; i++)
	{
		if (has_nulls && att_isnull(i, tuple->t_bits))
			continue;
		at = end_of_value(data, len, at, &shapes[i]);
		if (at == 0)
			return false;
	}
	return true;
}

/* Codes are positive; '\0' counts only as the very last byte. */
int
sup_next_field(const char *data, Size len, Size *at, const char **value)
{
	char		code;

	if (*at >= len)
		return -1;
	code = data[(*at)++];
	*value = data + *at;
	if (code == '\0')
		return *at == len ? '\0' : -1;
	return skip_string(data, len, at) ? (unsigned char) code : -1;
}
