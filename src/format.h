/*-------------------------------------------------------------------------
 *
 * format.h
 *	  What a session and a worker send each other through shared memory.
 *
 * Whoever reads it checks it first: the other process may have lost its mind,
 * and what is wrong must become an error, not a look at somebody else's memory.
 * The checks are here, and need nothing of the server but what its headers have
 * inline: t/format_test.c compiles them alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_FORMAT_H
#define SUP_FORMAT_H

/*
 * A command on its way to a worker.  There follow, not aligned: the command
 * with its zero; per column wanted, its type (Oid) and typmod (int32); per
 * parameter, its length (int32, -1 for NULL) and its bytes with a zero; per
 * setting, name and value with their zeros, and the role (Oid) that set it.
 */
typedef struct SupInput
{
	int32		command_len;	/* without the zero */
	int32		ncolumns;		/* -1: any */
	int32		nparams;		/* -1: no parameters were given */
	int32		nsettings;
} SupInput;

/* Type and typmod of a column. */
#define SUP_COLUMN_SIZE (sizeof(Oid) + sizeof(int32))

static inline void
sup_get_column(const char *columns, int i, Oid *type, int32 *typmod)
{
	memcpy(type, columns + i * SUP_COLUMN_SIZE, sizeof(Oid));
	memcpy(typmod, columns + i * SUP_COLUMN_SIZE + sizeof(Oid), sizeof(int32));
}

/* Is this a whole SupInput, with all its parts and nothing else? */
extern bool sup_input_is_sound(const char *data, Size len);

/* Where the parts of one that is sound begin. */
static inline const char *
sup_input_columns(const SupInput *input)
{
	return (const char *) (input + 1) + input->command_len + 1;
}

static inline const char *
sup_input_params(const SupInput *input)
{
	return sup_input_columns(input) + Max(input->ncolumns, 0) * SUP_COLUMN_SIZE;
}

extern const char *sup_input_settings(const SupInput *input);

/*
 * What a worker sends.  Messages are MAXALIGNed in the stream; one that is
 * larger than a chunk goes on in the next ones.  If it could not be sent to
 * its end, the next chunk does not continue it.
 */
typedef struct SupMessage
{
	uint32		len;			/* of what follows */
	char		type;
	char		unused[3];
} SupMessage;

#define SUP_MSG_COLUMNS 'T'		/* per column: Oid, int32 typmod */
#define SUP_MSG_TYPES	'Y'		/* sup_append_definitions(), if there are any */
#define SUP_MSG_ROW		'D'		/* MinimalTuple */
#define SUP_MSG_NOTICE	'N'		/* int32 encoding, then as in the protocol */
#define SUP_MSG_ERROR	'E'		/* likewise */

/*
 * Read the header of the message at *at, and advance *at to what follows it,
 * of which there may be less than it says.  False: that is no message.
 */
extern bool sup_next_message(const char *data, Size len, Size *at, SupMessage *message);

/* Of a SUP_MSG_COLUMNS. */
extern bool sup_columns_are_sound(Size len);

/* What must be known of a column's type to find its value in a row. */
typedef struct SupShape
{
	int16		len;			/* as pg_type.typlen */
	uint8		align;			/* in bytes */
} SupShape;

/*
 * Of a SUP_MSG_ROW, which is MAXALIGNed: is it a minimal tuple of these
 * columns, each of whose values ends before it does?  What is inside of a
 * value is for its type's functions to check.
 */
extern bool sup_row_is_sound(const char *data, Size len, int natts, const SupShape *shapes);

/*
 * The next field of the protocol's ErrorResponse or NoticeResponse at *at,
 * which is advanced; '\0' at its end, and -1 if it is broken.
 */
extern int	sup_next_field(const char *data, Size len, Size *at, const char **value);

#endif							/* SUP_FORMAT_H */
